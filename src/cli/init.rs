//! `rosterd init`: a configuration to begin with.

/// The example that is shipped, as it stands in the repository.
#[must_use]
pub fn template() -> &'static str {
    include_str!("../../daemon.example.yaml")
}
