//! The ready configurations, as they stand in `deploy/apis`.
//!
//! They are part of the program, so that `rosterd init NAME` works wherever it is installed.

/// A configuration for one API.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    pub name: &'static str,
    /// The YAML file's text.
    pub text: &'static str,
}

impl Ready {
    /// The first line of the file, which says what it is for.
    #[must_use]
    pub fn title(&self) -> &'static str {
        let line = self.text.lines().next().unwrap_or_default();
        line.trim_start_matches(['#', ' '])
    }
}

macro_rules! ready {
    ($($name:literal),* $(,)?) => {
        &[$(Ready {
            name: $name,
            text: include_str!(concat!("../../deploy/apis/", $name, ".yaml")),
        }),*]
    };
}

/// All of them, by name.
pub const ALL: &[Ready] = ready![
    "7shifts",
    "adp",
    "ashby",
    "bamboohr",
    "deputy",
    "factorial",
    "greenhouse",
    "gusto",
    "hibob",
    "hubstaff",
    "jazzhr",
    "lever",
    "merge",
    "paycor",
    "personio",
    "successfactors",
    "teamtailor",
    "workable",
    "workday-raas",
    "zoho-people"
];

/// The one of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Ready> {
    ALL.iter().find(|ready| ready.name == name)
}
