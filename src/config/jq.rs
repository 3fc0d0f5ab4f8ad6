//! Programs of jq: compiled when the file is read, run on the records of every page.
//!
//! They are compiled and run here, so that one place knows the crate. What a program can reach is
//! its input and nothing else: the functions that read a clock, the environment or a terminal, or end
//! the process, are not there.
//!
//! Numbers keep the digits that the API sent for as long as a program only moves them; what it
//! computes is computed as jq does, whole numbers exactly and all others as binary fractions.

use std::{fmt, sync::Arc};

use jaq_core::{
    Compiler, Ctx, Vars,
    data::JustLut,
    load::{self, Arena, File, Loader, lex, parse},
    unwrap_valr,
};
use jaq_json::{
    Val,
    read::parse_single,
    write::{Pp, write},
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{decode::Decode, problem::Problems, tree::Node};

/// Functions of jq that look or reach beyond their input.
const WITHOUT: [&str; 11] = [
    "debug",
    "debug_empty",
    "env",
    "halt",
    "halt_error",
    "input",
    "inputs",
    "localtime",
    "now",
    "stderr",
    "stderr_empty",
];

/// The same for what is written in terms of them.
const WITHOUT_TOO: [&str; 1] = ["strflocaltime"];

/// A compiled program. Clones share it.
#[derive(Clone)]
pub struct Program {
    text: Arc<str>,
    filter: Arc<jaq_core::Filter<JustLut<Val>>>,
}

/// A record while programs work on it.
#[derive(Clone)]
pub struct Item(Val);

/// A program ended with an error of its own. What it said may hold values and is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

impl Program {
    /// Compiles a program.
    ///
    /// # Errors
    ///
    /// Says where in the program something is wrong, without repeating it.
    pub fn compile(text: &str) -> Result<Self, String> {
        let is_kept = |name: &str| !WITHOUT.contains(&name) && !WITHOUT_TOO.contains(&name);
        let definitions = jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs())
            .filter(|definition| is_kept(definition.name));
        let functions = jaq_core::funs()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs())
            .filter(|(name, ..)| is_kept(name));
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(
                &arena,
                File {
                    code: text,
                    path: (),
                },
            )
            .map_err(|errors| loading(text, &errors))?;
        let filter = Compiler::default()
            .with_funs(functions)
            .compile(modules)
            .map_err(|errors| {
                let undefined = errors.into_iter().flat_map(|(_, errors)| errors);
                first(undefined.map(|(name, what)| (name, what.as_str()))).map_or_else(
                    unreadable,
                    |(name, what)| {
                        let known = WITHOUT.contains(&name) || WITHOUT_TOO.contains(&name);
                        let why = match known {
                            true => "is not there: a program sees its input and nothing else",
                            false => "is not known",
                        };
                        format!("{}: this {what} {why}", place(text, name))
                    },
                )
            })?;
        Ok(Self {
            text: text.into(),
            filter: Arc::new(filter),
        })
    }

    /// The program as it stands in the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the program makes of one value, piece by piece and no sooner than it is asked for.
    pub fn run(&self, item: Item) -> impl Iterator<Item = Result<Item, Failed>> {
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let outputs = self.filter.id.run((context, item.0)).map(unwrap_valr);
        outputs.map(|output| output.map(Item).map_err(|_| Failed))
    }
}

impl Item {
    /// Reads strict JSON of little depth; the reader recurses and takes more than JSON.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        parse_single(json).ok().map(Self)
    }

    /// Appends the value's text. It is JSON unless the program made a value that JSON does not have:
    /// a number that is none, bytes, a name that is no text.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        write(out, &Pp::default(), 0, &self.0).ok();
    }

    /// Whether jq takes the value for true: all but `false` and `null`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        !matches!(self.0, Val::Null | Val::Bool(false))
    }

    /// The value, if it is `true` or `false`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.0 {
            Val::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl PartialEq for Program {
    /// By their texts, of which all else is made.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.text).finish()
    }
}

impl fmt::Debug for Item {
    /// Nothing of the record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Item")
    }
}

impl Decode for Program {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Some(scalar) = node.scalar() else {
            node.wrong(problems, "expected a program of jq, as a text");
            return None;
        };
        match Self::compile(&scalar.text) {
            Ok(program) => Some(program),
            Err(message) => {
                node.wrong(problems, message);
                None
            }
        }
    }

    fn show(&self) -> Value {
        self.text().into()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "jq" })
    }
}

/// The first error of reading a program, told by its place.
fn loading(text: &str, errors: &load::Errors<&str, ()>) -> String {
    let error = errors.first().map(|(_, error)| error);
    match error {
        Some(load::Error::Lex(errors)) => {
            first(errors.iter()).map_or_else(unreadable, |(expected, at)| {
                let expected = match expected {
                    lex::Expect::Delim(_) => "a closing bracket or quote",
                    lex::Expect::Escape | lex::Expect::Unicode => "an escape of a text",
                    lex::Expect::Ident => "a name",
                    _ => "a token of jq",
                };
                format!("{}: expected {expected}", place(text, at))
            })
        }
        Some(load::Error::Parse(errors)) => {
            first(errors.iter()).map_or_else(unreadable, |(expected, at)| {
                let expected = match expected {
                    parse::Expect::Term => "a term",
                    parse::Expect::Pattern => "a pattern",
                    parse::Expect::Key => "a key",
                    parse::Expect::Var => "a variable",
                    parse::Expect::Str => "a text",
                    parse::Expect::ElseOrEnd => "`else` or `end`",
                    _ => "something else",
                };
                format!("{}: expected {expected}", place(text, at))
            })
        }
        Some(load::Error::Io(_)) => "a program cannot include or import others".to_owned(),
        None => unreadable(),
    }
}

fn first<T>(mut errors: impl Iterator<Item = T>) -> Option<T> {
    errors.next()
}

fn unreadable() -> String {
    "not a program of jq".to_owned()
}

/// Line and column of a part of the program.
fn place(text: &str, part: &str) -> String {
    let offset = (part.as_ptr() as usize)
        .checked_sub(text.as_ptr() as usize)
        .filter(|offset| *offset <= text.len());
    // A part that is none of the text's is its end.
    let before = text.get(..offset.unwrap_or(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars();
    format!(
        "not a program of jq, line {line}, column {} of it",
        column.count() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(program: &str, input: &str) -> Vec<Result<String, Failed>> {
        let program = Program::compile(program).unwrap_or_else(|error| panic!("{error}"));
        let run = program.run(Item::parse(input.as_bytes()).unwrap());
        run.take(20)
            .map(|output| {
                let mut text = Vec::new();
                output?.write(&mut text);
                Ok(String::from_utf8(text).unwrap())
            })
            .collect()
    }

    #[test]
    fn numbers_that_are_only_moved_keep_every_digit() {
        for number in [
            "0",
            "-1",
            "9007199254740993",
            "18446744073709551617",
            "123456789012345678901234567890123456789012345678901234567890",
            "0.1",
            "1.10",
            "1234567890.12345678901234567890",
            "1E400",
            "1e-400",
            "100000000000000000000.00",
        ] {
            let input = format!(r#"{{"a": {number}, "list": [{{"b": {number}}}]}}"#);
            for (program, expected) in [
                (".a", number.to_owned()),
                ("{x: .a}", format!(r#"{{"x":{number}}}"#)),
                (".list[]", format!(r#"{{"b":{number}}}"#)),
                ("del(.a)", format!(r#"{{"list":[{{"b":{number}}}]}}"#)),
                (
                    ".list | map({(\"k\"): .b})",
                    format!(r#"[{{"k":{number}}}]"#),
                ),
                ("[.a] | sort | .[0]", number.to_owned()),
                (".a | tojson | fromjson", number.to_owned()),
                (".a | tostring", format!("\"{number}\"")),
                (
                    "with_entries(select(.key == \"a\")) | .a",
                    number.to_owned(),
                ),
            ] {
                assert_eq!(
                    outputs(program, &input),
                    [Ok(expected)],
                    "{program} of {number}"
                );
            }
            let text = format!(r#"{{"a": "{number}"}}"#);
            assert_eq!(
                outputs(".a | tonumber", &text),
                [Ok(number.to_owned())],
                "{number} from text"
            );
        }
    }

    #[test]
    fn whole_numbers_are_computed_exactly_and_fractions_as_jq_does() {
        for (program, expected) in [
            ("9007199254740993 + 1", "9007199254740994"),
            ("9223372036854775807 + 1", "9223372036854775808"),
            (
                "123456789012345678901234567890 * 10",
                "1234567890123456789012345678900",
            ),
            ("90 / 60", "1.5"),
            ("0.1 + 0.2", "0.30000000000000004"),
        ] {
            assert_eq!(
                outputs(program, "null"),
                [Ok(expected.to_owned())],
                "{program}"
            );
        }
    }

    #[test]
    fn nothing_beyond_the_input_can_be_reached() {
        for program in [
            "env",
            "$ENV.PATH",
            "now",
            "input",
            "[inputs]",
            "halt",
            "halt_error",
            "debug",
            "stderr",
            "localtime",
            "strflocaltime(\"%H\")",
            "include \"x\"; .",
            "import \"x\" as x; x::y",
            "$__prog_args",
        ] {
            assert!(Program::compile(program).is_err(), "{program}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place_and_not_repeated() {
        for (program, told) in [
            ("", "line 1, column 1"),
            (".a |", "line 1, column 5"),
            (".a\n| secret_word", "line 2, column 3"),
            ("{a: (.b}", "line 1"),
            (".a | \"secret_word", "line 1"),
            ("if .a then 1", "line 1"),
            (".a + $secret_word", "line 1, column 6"),
        ] {
            let message = Program::compile(program).unwrap_err();
            assert!(message.contains(told), "{program:?}: {message}");
            assert!(!message.contains("secret_word"), "{message}");
        }
    }

    #[test]
    fn an_error_of_a_program_says_nothing_of_the_value() {
        assert_eq!(outputs(".a + 1", r#"{"a": "Jane"}"#), [Err(Failed)]);
        assert_eq!(outputs("error(.a)", r#"{"a": "Jane"}"#), [Err(Failed)]);
        assert_eq!(
            outputs(".[] | (1 / .)", "[1, \"x\"]"),
            [Ok("1.0".to_owned()), Err(Failed)]
        );
    }
}
