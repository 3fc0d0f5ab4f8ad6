//! Parents and children: which resource is walked for the records of which.
//!
//! A resource's parent is not named by a key of its own; it is the one that its placeholders name. Where
//! they name several, all must be of one line: a company, its departments, their employees.

use std::sync::Arc;

use super::{
    Resource, parent::ParentRules, problem::Problems, resource::hash, template::Field, tree::Node,
};

/// A resource whose parent is not looked for yet.
pub(super) struct Draft<'a> {
    pub(super) resource: Resource,
    pub(super) rules: ParentRules,
    /// Whether it fills a table, or is only walked for its children.
    pub(super) is_synced: bool,
    pub(super) node: &'a Node,
}

/// Gives each resource its parent; those that are not synced themselves stand under their children only.
pub(super) fn join(drafts: &[Draft<'_>], problems: &mut Problems) -> Option<Vec<Resource>> {
    let mut joined: Vec<Option<Arc<Resource>>> = vec![None; drafts.len()];
    let mut whole = true;
    for at in 0..drafts.len() {
        whole &= Joining {
            drafts,
            joined: &mut joined,
            under_way: Vec::new(),
        }
        .resource(at, problems)
        .is_some();
    }
    let synced = drafts
        .iter()
        .zip(joined)
        .filter(|(draft, _)| draft.is_synced);
    let resources = synced.filter_map(|(_, resource)| resource);
    whole.then(|| resources.map(Arc::unwrap_or_clone).collect())
}

struct Joining<'a> {
    drafts: &'a [Draft<'a>],
    joined: &'a mut Vec<Option<Arc<Resource>>>,
    /// The way down to the resource in hand, so that a circle is noticed.
    under_way: Vec<usize>,
}

impl Joining<'_> {
    fn resource(&mut self, at: usize, problems: &mut Problems) -> Option<Arc<Resource>> {
        if let Some(done) = self.joined.get(at).cloned().flatten() {
            return Some(done);
        }
        let draft = self.drafts.get(at)?;
        let endpoint = draft.node.nearest(&["endpoint"]);
        if self.under_way.contains(&at) {
            endpoint.wrong(problems, "is its own parent, by way of its placeholders");
            return None;
        }
        let fields = draft.resource.endpoint.fields();
        let mut resource = draft.resource.clone();
        if fields.is_empty() {
            draft.rules.check_alone(draft.node, problems);
        } else {
            self.under_way.push(at);
            let parent = self.parent(&fields, endpoint, problems);
            self.under_way.pop();
            let parent = parent?;
            resource.fingerprint = fingerprint(&resource, &parent);
            let link = draft
                .rules
                .resolve(&resource, parent, fields, draft.node, problems);
            resource.parent = Some(link);
        }
        let resource = Arc::new(resource);
        if let Some(place) = self.joined.get_mut(at) {
            *place = Some(Arc::clone(&resource));
        }
        Some(resource)
    }

    /// The nearest of the resources that the fields are of; the others must be its own parents.
    fn parent(
        &mut self,
        fields: &[Field],
        endpoint: &Node,
        problems: &mut Problems,
    ) -> Option<Arc<Resource>> {
        let mut named: Vec<&str> = fields.iter().map(|field| field.resource.as_str()).collect();
        named.sort_unstable();
        named.dedup();
        let places: Vec<usize> = named
            .iter()
            .filter_map(|name| self.drafts.iter().position(|d| d.resource.name == **name))
            .collect();
        let resources: Vec<Arc<Resource>> = places
            .into_iter()
            .map(|at| self.resource(at, problems))
            .collect::<Option<_>>()?;
        let nearest = resources.into_iter().find(|resource| {
            let above = resource.parent.as_ref();
            let line: Vec<&str> = above
                .map(|parent| parent.line().map(|r| r.name.as_str()).collect())
                .unwrap_or_default();
            let is_of_line = |name: &&str| *name == resource.name || line.contains(name);
            named.iter().all(is_of_line)
        });
        if nearest.is_none() {
            endpoint.wrong(
                problems,
                "placeholders name several parents; there can be one, and that one's own parents",
            );
        }
        nearest
    }
}

/// What the parents are changes what a child's cursor means.
fn fingerprint(child: &Resource, parent: &Resource) -> String {
    hash(&serde_json::json!([
        child.fingerprint,
        parent.fingerprint,
        parent.values
    ]))
}
