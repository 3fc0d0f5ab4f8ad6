//! The condition that says of a record that it is gone.
//!
//! It is judged before the privacy rules take fields away and told beside the records, so that a program
//! that speaks of such a field does not find it missing and keep every row. What it cannot judge is a
//! reject: neither a row nor the end of one.

use super::{json::Checker, reason, steps::read};
use crate::config::{columns::Nul, jq::Program};

/// What the condition says of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Stays,
    Gone,
    /// Nobody can say, for this [`reason`].
    Unknown(&'static str),
}

/// The condition of one resource.
#[derive(Debug, Clone)]
pub struct Condition {
    program: Program,
    nul: Nul,
}

impl Condition {
    #[must_use]
    pub fn new(program: Program, nul: Nul) -> Self {
        Self { program, nul }
    }

    /// Takes as long and as much memory as the program does, which nobody can foresee.
    #[must_use]
    pub fn record(&self, record: &[u8]) -> Verdict {
        self.judge(record).unwrap_or_else(Verdict::Unknown)
    }

    fn judge(&self, record: &[u8]) -> Result<Verdict, &'static str> {
        let (item, _) = read(record, self.nul, &mut Checker::default())?;
        let mut outputs = self.program.run(item);
        let one = outputs.next().ok_or(reason::STEP_NOT_ONE)?;
        let one = one.map_err(|_| reason::STEP_FAILED)?;
        if outputs.next().is_some() {
            return Err(reason::STEP_NOT_ONE);
        }
        match one.boolean() {
            Some(true) => Ok(Verdict::Gone),
            Some(false) => Ok(Verdict::Stays),
            None => Err(reason::NOT_BOOLEAN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_and_false_are_answers() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        for (program, record, expected) in [
            (".s == \"left\"", r#"{"s":"left"}"#, Verdict::Gone),
            (".s == \"left\"", r#"{"s":"here"}"#, Verdict::Stays),
            (".s == \"left\"", "{}", Verdict::Stays),
            (".s", r#"{"s":true}"#, Verdict::Gone),
            (".s", "{}", Verdict::Unknown(reason::NOT_BOOLEAN)),
            (
                ".s",
                r#"{"s":"true"}"#,
                Verdict::Unknown(reason::NOT_BOOLEAN),
            ),
            (".s", r#"{"s":1}"#, Verdict::Unknown(reason::NOT_BOOLEAN)),
            (
                ".s[]",
                r#"{"s":[]}"#,
                Verdict::Unknown(reason::STEP_NOT_ONE),
            ),
            (
                ".s[]",
                r#"{"s":[true,true]}"#,
                Verdict::Unknown(reason::STEP_NOT_ONE),
            ),
            (
                ".s | startswith(\"l\")",
                r#"{"s":1}"#,
                Verdict::Unknown(reason::STEP_FAILED),
            ),
            ("error", "{}", Verdict::Unknown(reason::STEP_FAILED)),
            ("true", r#"{"a":"#, Verdict::Unknown(reason::INVALID_JSON)),
            ("true", &deep, Verdict::Unknown(reason::TOO_DEEP)),
            (
                "true",
                r#"{"n":1e99999}"#,
                Verdict::Unknown(reason::NUMBER_OUT_OF_RANGE),
            ),
        ] {
            let condition = Condition::new(Program::compile(program).unwrap(), Nul::Replace);
            let verdict = condition.record(record.as_bytes());
            assert_eq!(verdict, expected, "{program} of {record}");
        }
    }
}
