//! `{vars.<name>}` in section `client`: a tenant in the host or the path, in a token's URL, in a header.
//!
//! Filled in the tree, before anything is decoded: `https://{vars.tenant}.example.com` is no URL yet. What
//! is filled into an address is encoded first, so that it stays inside its label or segment.

use indexmap::IndexMap;

use super::{
    problem::Problems,
    template::path_segment,
    tree::{Content, Filled, Node},
};

/// Fills the client of one source with its variables.
pub(super) fn fill(source: &mut Node, problems: &mut Problems) {
    let vars: IndexMap<String, String> = source
        .get("vars")
        .and_then(Node::map)
        .into_iter()
        .flatten()
        .filter_map(|(name, entry)| Some((name.clone(), entry.node.scalar()?.text.clone())))
        .collect();
    if let Content::Map(map) = &mut source.content
        && let Some(client) = map.get_mut("client")
    {
        fill_node(&mut client.node, "client", &vars, problems);
    }
}

fn fill_node(node: &mut Node, key: &str, vars: &IndexMap<String, String>, problems: &mut Problems) {
    match &mut node.content {
        Content::Map(map) => {
            for (key, entry) in map {
                fill_node(&mut entry.node, key, vars, problems);
            }
        }
        Content::List(list) => {
            for item in list {
                fill_node(item, key, vars, problems);
            }
        }
        // A secret may hold any signs.
        Content::Scalar(scalar) if scalar.filled != Filled::Secret => {
            if !scalar.text.contains("{vars.") {
                return;
            }
            let is_address = key == "url" || key.ends_with("_url");
            for (name, value) in vars {
                let value = match is_address {
                    true => path_segment(value),
                    false => value.clone(),
                };
                scalar.text = scalar.text.replace(&format!("{{vars.{name}}}"), &value);
            }
            if scalar.text.contains("{vars.") {
                node.wrong(problems, "no such variable in the source's `vars`");
                node.content = Content::Broken;
            }
        }
        Content::Scalar(_) | Content::Null | Content::Broken => {}
    }
}
