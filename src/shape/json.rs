//! Reading JSON as bytes: where values begin and end, and nothing built from them.
//!
//! Own code and not a JSON crate, for three needs that none meets together: names are compared in
//! place with the ones expected, nesting of any depth is passed over without recursion, and a lone
//! surrogate or NUL is repaired instead of costing the page. Whatever goes on to Postgres as JSON
//! passes through [`Checker`], which is strict.

use super::number;
use crate::config::{columns::Nul, endpoint::Step};

/// The bytes are not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// One value as it stands in the record. Strings come without their quotes, escapes unread.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) token: Token,
    pub(super) raw: &'a [u8],
    /// The string holds a backslash.
    pub(super) escaped: bool,
}

/// A value as offsets, for keeping while the bytes are borrowed elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) token: Token,
    pub(super) escaped: bool,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Extent {
    /// The value that these offsets mean in `bytes`.
    pub(super) fn of(self, bytes: &[u8]) -> Value<'_> {
        Value {
            token: self.token,
            raw: bytes
                .get(self.start as usize..self.end as usize)
                .unwrap_or_default(),
            escaped: self.escaped,
        }
    }
}

/// A place in JSON text.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over `byte` and the space after it, if it is the next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        if hit {
            self.at += 1;
            self.skip_space();
        }
        hit
    }

    /// Nothing but space is left.
    pub(super) fn is_done(&mut self) -> bool {
        self.skip_space();
        self.at >= self.bytes.len()
    }

    /// Steps over `"name":` when it is what comes next. `name` must not need escapes.
    pub(super) fn eat_name(&mut self, name: &[u8]) -> bool {
        let Some(rest) = self.bytes.get(self.at..) else {
            return false;
        };
        let Some(after) = rest
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_prefix(name))
            .and_then(|rest| rest.strip_prefix(b"\""))
        else {
            return false;
        };
        let mark = self.at;
        self.at = self.bytes.len() - after.len();
        self.skip_space();
        if self.eat(b':') {
            return true;
        }
        self.at = mark;
        false
    }

    /// Reads `"name":` and gives the name as a string value.
    pub(super) fn name(&mut self) -> Result<Value<'a>, Malformed> {
        if self.peek() != Some(b'"') {
            return Err(Malformed);
        }
        let name = self.string()?;
        self.skip_space();
        if !self.eat(b':') {
            return Err(Malformed);
        }
        Ok(name.of(self.bytes))
    }

    /// After a member: true when another follows, false when `close` ended the object or list.
    pub(super) fn more(&mut self, close: u8) -> Result<bool, Malformed> {
        self.skip_space();
        if self.eat(b',') {
            Ok(true)
        } else if self.peek() == Some(close) {
            self.at += 1;
            Ok(false)
        } else {
            Err(Malformed)
        }
    }

    /// Passes over one value. Lists and objects are only matched by their brackets.
    pub(super) fn value(&mut self) -> Result<Extent, Malformed> {
        let start = self.at;
        let token = match self.peek().ok_or(Malformed)? {
            b'"' => return self.string(),
            b'{' => {
                self.nested()?;
                Token::Object
            }
            b'[' => {
                self.nested()?;
                Token::Array
            }
            b'-' | b'0'..=b'9' => {
                self.scalar();
                Token::Number
            }
            b't' | b'f' => {
                self.scalar();
                if !matches!(self.bytes.get(start..self.at), Some(b"true" | b"false")) {
                    return Err(Malformed);
                }
                Token::Boolean
            }
            b'n' => {
                self.scalar();
                if self.bytes.get(start..self.at) != Some(b"null") {
                    return Err(Malformed);
                }
                Token::Null
            }
            _ => return Err(Malformed),
        };
        Ok(self.extent(token, start))
    }

    /// The extent from `start` up to here.
    pub(super) fn extent(&self, token: Token, start: usize) -> Extent {
        Extent {
            token,
            escaped: false,
            start: offset(start),
            end: offset(self.at),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Another reader at the same place.
    pub(super) fn fork(&self) -> Self {
        Self {
            bytes: self.bytes,
            at: self.at,
        }
    }

    fn scalar(&mut self) {
        while let Some(byte) = self.peek() {
            if matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') {
                break;
            }
            self.at += 1;
        }
    }

    /// A string, standing on its opening quote.
    fn string(&mut self) -> Result<Extent, Malformed> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            while let Some(chunk) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
                let special = special_bytes(u64::from_le_bytes(*chunk));
                if special != 0 {
                    self.at += (special.trailing_zeros() / 8) as usize;
                    break;
                }
                self.at += 8;
            }
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok(Extent {
                        token: Token::String,
                        escaped,
                        start: offset(start),
                        end: offset(end),
                    });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                None | Some(..0x20) => return Err(Malformed),
                Some(_) => self.at += 1,
            }
        }
    }

    /// A list or object, standing on its bracket; any depth, no recursion.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }
}

/// Offsets inside a record fit, because a body is far below 4 GiB; one that is not reads as empty.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Marks (by their high bit) the bytes of `word` that end a run of plain string bytes: quote,
/// backslash, control. Only the lowest mark is exact, which is all that is asked for.
fn special_bytes(word: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (LOW * b'"' as u64);
    let backslash = word ^ (LOW * b'\\' as u64);
    ((quote.wrapping_sub(LOW) & !quote)
        | (backslash.wrapping_sub(LOW) & !backslash)
        | (word.wrapping_sub(LOW * 0x20) & !word))
        & HIGH
}

/// The value at `steps` inside `value`; `None` where there is no such place. Of names that stand
/// twice the last counts.
pub(super) fn find<'a>(value: Value<'a>, steps: &[Step]) -> Result<Option<Value<'a>>, Malformed> {
    let mut value = value;
    for step in steps {
        let found = match (step, value.token) {
            (Step::Key(name), Token::Object) => member(value.raw, name)?,
            (Step::Index(index), Token::Array) => element(value.raw, *index)?,
            _ => None,
        };
        match found {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn member<'a>(object: &'a [u8], wanted: &str) -> Result<Option<Value<'a>>, Malformed> {
    let mut found = None;
    let mut reader = Reader::new(object);
    if !reader.eat(b'{') {
        return Err(Malformed);
    }
    if reader.peek() == Some(b'}') {
        return Ok(None);
    }
    loop {
        let name = reader.name()?;
        let value = reader.value()?;
        if is_name(name, wanted) {
            found = Some(value.of(object));
        }
        if !reader.more(b'}')? {
            return Ok(found);
        }
    }
}

fn element(list: &[u8], index: i64) -> Result<Option<Value<'_>>, Malformed> {
    let mut values = Vec::new();
    let mut reader = Reader::new(list);
    if !reader.eat(b'[') {
        return Err(Malformed);
    }
    if reader.peek() == Some(b']') {
        return Ok(None);
    }
    loop {
        values.push(reader.value()?);
        if !reader.more(b']')? {
            break;
        }
    }
    let place = if index < 0 {
        usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| values.len().checked_sub(back))
    } else {
        usize::try_from(index).ok()
    };
    Ok(place
        .and_then(|place| values.get(place))
        .map(|value| value.of(list)))
}

/// Whether a member's name, as it stands in the record, is `wanted`.
pub(super) fn is_name(name: Value<'_>, wanted: &str) -> bool {
    if !name.escaped {
        return name.raw == wanted.as_bytes();
    }
    let mut plain = Vec::with_capacity(name.raw.len());
    unescape(name.raw, &mut plain, &mut 0).is_ok() && plain == wanted.as_bytes()
}

/// U+FFFD, in the place of what Postgres cannot hold.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Appends the text that the inside of a JSON string means. NUL and lone surrogates become U+FFFD,
/// counted in `replaced`.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>, replaced: &mut u64) -> Result<(), Malformed> {
    unescape_with(Nul::Replace, raw, out, replaced)
}

/// [`unescape`], with what `nul` says in the place of NUL and lone surrogates, which are counted.
pub(super) fn unescape_with(
    nul: Nul,
    raw: &[u8],
    out: &mut Vec<u8>,
    replaced: &mut u64,
) -> Result<(), Malformed> {
    let mut rest = raw;
    while let Some(plain) = rest.iter().position(|&byte| byte == b'\\') {
        let (before, from) = rest.split_at(plain);
        out.extend_from_slice(before);
        let kind = *from.get(1).ok_or(Malformed)?;
        rest = from.get(2..).ok_or(Malformed)?;
        let byte = match kind {
            b'"' | b'\\' | b'/' => kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (unit, length) = unicode(rest)?;
                rest = rest.get(length..).ok_or(Malformed)?;
                match unit {
                    Some(letter) => {
                        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    None => {
                        *replaced += 1;
                        if nul != Nul::Strip {
                            out.extend_from_slice(REPLACEMENT);
                        }
                    }
                }
                continue;
            }
            _ => return Err(Malformed),
        };
        out.push(byte);
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Reads what follows `\u`: the character (`None` for NUL and lone surrogates) and how many bytes
/// belong to it, 4 or, with the second half of a pair, 10.
fn unicode(rest: &[u8]) -> Result<(Option<char>, usize), Malformed> {
    let high = hex(rest)?;
    if high == 0 {
        return Ok((None, 4));
    }
    if let Some(letter) = char::from_u32(high) {
        return Ok((Some(letter), 4));
    }
    let low = rest
        .get(4..)
        .and_then(|rest| rest.strip_prefix(b"\\u"))
        .and_then(|rest| hex(rest).ok());
    match low {
        Some(low @ 0xdc00..=0xdfff) if high < 0xdc00 => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            Ok((char::from_u32(code), 10))
        }
        _ => Ok((None, 4)),
    }
}

fn hex(rest: &[u8]) -> Result<u32, Malformed> {
    let digits = rest.first_chunk::<4>().ok_or(Malformed)?;
    digits.iter().try_fold(0, |code, &digit| {
        let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
        Ok(code * 16 + digit)
    })
}

/// Appends `text` as the inside of a JSON string.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
            ..' ' => out.extend_from_slice(format!("\\u{:04x}", letter as u32).as_bytes()),
            _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Why a value cannot be stored as `jsonb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Malformed,
    TooDeep,
    Number,
}

/// Levels of nesting that are stored. Postgres itself ends between 5,000 and 100,000 (54001),
/// depending on `max_stack_depth`.
const MAX_DEPTH: usize = 5_000;

/// What a strict reading of a JSON value found.
pub(super) struct Form {
    /// It holds `\u` escapes that may have to be replaced.
    suspect: bool,
    /// All its numbers are such as `numeric` holds.
    is_in_range: bool,
}

/// Strict reading of a JSON value before it is sent as `jsonb`, because one that Postgres refuses
/// costs the whole batch. Holds the stack of open brackets between values.
#[derive(Default)]
pub(super) struct Checker {
    open: Vec<u8>,
}

impl Checker {
    /// Reads `json` to its end. `true`: it holds `\u` escapes that may have to be replaced.
    pub(super) fn check(&mut self, json: &[u8]) -> Result<bool, Unfit> {
        match self.check_form(json)? {
            Form { is_in_range, .. } if !is_in_range => Err(Unfit::Number),
            Form { suspect, .. } => Ok(suspect),
        }
    }

    /// The same of everything but the size of numbers.
    pub(super) fn check_form(&mut self, json: &[u8]) -> Result<Form, Unfit> {
        let mut is_in_range = true;
        self.open.clear();
        let mut reader = Reader::new(json);
        let mut suspect = false;
        reader.skip_space();
        loop {
            // A value begins here.
            match reader.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if self.open.len() >= MAX_DEPTH {
                        return Err(Unfit::TooDeep);
                    }
                    let close = if open == b'{' { b'}' } else { b']' };
                    reader.eat(open);
                    if reader.peek() == Some(close) {
                        reader.at += 1;
                    } else {
                        self.open.push(close);
                        if close == b'}' {
                            suspect |= member_name(&mut reader)?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    let text = reader.string().map_err(|Malformed| Unfit::Malformed)?;
                    suspect |= strict_string(text.of(json))?;
                }
                _ => {
                    let scalar = reader.value().map_err(|Malformed| Unfit::Malformed)?;
                    if scalar.token == Token::Number {
                        match number::Decimal::parse(scalar.of(json).raw) {
                            Ok(_) => {}
                            Err(number::Misread::Malformed) => return Err(Unfit::Malformed),
                            Err(number::Misread::OutOfRange) => is_in_range = false,
                        }
                    }
                }
            }
            // A value has ended; so may the lists and objects around it.
            loop {
                let Some(&close) = self.open.last() else {
                    return if reader.is_done() {
                        Ok(Form {
                            suspect,
                            is_in_range,
                        })
                    } else {
                        Err(Unfit::Malformed)
                    };
                };
                if reader.more(close).map_err(|Malformed| Unfit::Malformed)? {
                    if close == b'}' {
                        suspect |= member_name(&mut reader)?;
                    }
                    break;
                }
                self.open.pop();
            }
        }
    }
}

/// Levels of lists and objects in checked JSON text.
pub(super) fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut reader = Reader::new(json);
    while let Some(byte) = reader.peek() {
        match byte {
            b'"' if reader.string().is_err() => break,
            b'"' => continue,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        reader.at += 1;
    }
    deepest
}

fn member_name(reader: &mut Reader<'_>) -> Result<bool, Unfit> {
    let name = reader.name().map_err(|Malformed| Unfit::Malformed)?;
    strict_string(name)
}

/// Checks the escapes of a string. `true`: one of them is NUL or a surrogate.
fn strict_string(text: Value<'_>) -> Result<bool, Unfit> {
    if !text.escaped {
        return Ok(false);
    }
    let mut suspect = false;
    let mut bytes = text.raw.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            continue;
        }
        match bytes.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
            Some(b'u') => {
                let rest = bytes.as_slice();
                let code = hex(rest).map_err(|Malformed| Unfit::Malformed)?;
                suspect |= code == 0 || (0xd800..=0xdfff).contains(&code);
                bytes = rest.get(4..).unwrap_or_default().iter();
            }
            _ => return Err(Unfit::Malformed),
        }
    }
    Ok(suspect)
}

/// Replaces the escapes of NUL and lone surrogates in checked JSON text, from `start` on, by that of
/// U+FFFD, or leaves them out.
pub(super) fn repair(nul: Nul, text: &mut Vec<u8>, start: usize, replaced: &mut u64) {
    let mut cuts = Vec::new();
    let mut at = start;
    while let Some(rest) = text.get(at..) {
        let Some(found) = rest.iter().position(|&byte| byte == b'\\') else {
            break;
        };
        at += found;
        if text.get(at + 1) != Some(&b'u') {
            at += 2;
            continue;
        }
        match unicode(text.get(at + 2..).unwrap_or_default()) {
            Ok((None, _)) => {
                if let Some(escape) = text.get_mut(at..at + 6) {
                    escape.copy_from_slice(b"\\ufffd");
                    *replaced += 1;
                    cuts.push(at);
                }
                at += 6;
            }
            Ok((Some(_), length)) => at += 2 + length,
            Err(Malformed) => break,
        }
    }
    if nul == Nul::Strip && !cuts.is_empty() {
        let old = text.split_off(start);
        let mut from = 0;
        for cut in cuts {
            text.extend_from_slice(old.get(from..cut - start).unwrap_or_default());
            from = cut - start + 6;
        }
        text.extend_from_slice(old.get(from..).unwrap_or_default());
    }
}
