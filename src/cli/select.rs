//! Which resources a command means: `SOURCE`, `SOURCE/RESOURCE`, or all.

use crate::{config::Config, record::Registered};

/// A name on the command line that the configuration does not have.
#[derive(Debug, thiserror::Error)]
#[error("no such source or resource: {wanted}; there are: {known}")]
pub(super) struct NoSuchResource {
    wanted: String,
    known: String,
}

/// The resources that `wanted` names; all when it is empty.
///
/// # Errors
///
/// [`NoSuchResource`] for the first name that matches nothing.
pub(super) fn select<'a>(
    registered: &'a [Registered],
    wanted: &[String],
) -> Result<Vec<&'a Registered>, NoSuchResource> {
    if wanted.is_empty() {
        return Ok(registered.iter().collect());
    }
    for name in wanted {
        if !registered.iter().any(|r| matches(r, name)) {
            let known: Vec<String> = registered.iter().map(full_name).collect();
            return Err(NoSuchResource {
                wanted: name.clone(),
                known: known.join(", "),
            });
        }
    }
    Ok(registered
        .iter()
        .filter(|r| wanted.iter().any(|name| matches(r, name)))
        .collect())
}

/// The one resource that `wanted` names.
///
/// # Errors
///
/// [`NoSuchResource`] when it names none, or more than one.
pub(super) fn one<'a>(
    registered: &'a [Registered],
    wanted: &str,
) -> Result<&'a Registered, NoSuchResource> {
    match select(registered, std::slice::from_ref(&wanted.to_owned()))?.as_slice() {
        [one] => Ok(one),
        several => Err(NoSuchResource {
            wanted: format!("{wanted} names more than one"),
            known: several
                .iter()
                .map(|r| full_name(r))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Checks names before anything is started.
///
/// # Errors
///
/// [`NoSuchResource`] for the first name that matches nothing.
pub(super) fn check(config: &Config, wanted: &[String]) -> Result<(), NoSuchResource> {
    let registered: Vec<Registered> = config
        .sources
        .iter()
        .flat_map(|source| {
            source.resources.iter().map(|resource| Registered {
                resource_id: 0,
                source: source.name.clone(),
                account: source.account.clone(),
                resource: resource.name.clone(),
            })
        })
        .collect();
    select(&registered, wanted).map(|_| ())
}

/// `source/resource`, or `source/account/resource` where the account is not the default one.
pub(super) fn full_name(registered: &Registered) -> String {
    let Registered {
        source,
        account,
        resource,
        ..
    } = registered;
    if account == "default" {
        format!("{source}/{resource}")
    } else {
        format!("{source}/{account}/{resource}")
    }
}

fn matches(registered: &Registered, name: &str) -> bool {
    name == registered.source
        || name == full_name(registered)
        || name == format!("{}/{}", registered.source, registered.resource)
}
