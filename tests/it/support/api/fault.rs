//! What can go wrong with an answer, when, and how often.

use super::{
    Arc, AtomicUsize, Body, Bytes, Cutter, Duration, Inner, Response, SeqCst, StatusCode, header,
};

/// One way in which an answer goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status with a body that holds a person.
    Status(u16),
    /// The same with a `Retry-After` header.
    RetryAfter(u16, String),
    /// Any status, content type and body.
    Answer(u16, &'static str, Bytes),
    /// A redirect to this URL.
    Redirect(String),
    /// The connection is reset before the headers.
    Reset,
    /// The connection is reset in the middle of the body.
    ResetMidBody,
    /// The body ends before its announced length.
    Truncated,
    /// The answer begins late.
    Late(Duration),
    /// The body comes byte by byte, one per this time.
    Trickle(Duration),
    /// A body of records without end.
    Endless,
    /// The same as gzip: 1 byte sent, 158 received.
    GzipBomb,
    /// The right answer, under another content encoding than it has.
    Encoding(&'static str),
}

/// Which requests.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Page(usize),
    Every(usize),
}

/// A fault in the making: `api.page(3).fails_with(429).once()`.
#[must_use]
pub(crate) struct Script {
    inner: Arc<Inner>,
    when: When,
    fault: Fault,
}

pub(crate) struct Entry {
    when: When,
    fault: Fault,
    left: usize,
}

impl Script {
    pub(super) fn new(inner: Arc<Inner>, when: When) -> Self {
        Self {
            inner,
            when,
            fault: Fault::Status(500),
        }
    }

    /// An error status.
    pub(crate) fn fails_with(self, status: u16) -> Self {
        self.goes(Fault::Status(status))
    }

    /// Any fault.
    pub(crate) fn goes(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) fn once(self) {
        self.times(1);
    }

    pub(crate) fn twice(self) {
        self.times(2);
    }

    pub(crate) fn always(self) {
        self.times(usize::MAX);
    }

    pub(crate) fn times(self, times: usize) {
        let Self { inner, when, fault } = self;
        inner.state.lock().unwrap().scripts.push(Entry {
            when,
            fault,
            left: times,
        });
    }
}

impl Entry {
    /// The fault, when this request, the `count`-th, gets it.
    pub(super) fn bite(&mut self, count: usize, page: Option<usize>) -> Option<Fault> {
        let hit = match self.when {
            When::Page(wanted) => page == Some(wanted),
            When::Every(n) => count.is_multiple_of(n),
        };
        if !hit || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(self.fault.clone())
    }
}

impl Fault {
    pub(super) async fn apply(
        self,
        good: Response,
        wire: &Cutter,
        pouring: &Arc<AtomicUsize>,
    ) -> Response {
        const PERSON: &str = r#"{"error":"cannot read Jane Doe 123-45-6789"}"#;
        let whole = |good: Response| async {
            axum::body::to_bytes(good.into_body(), usize::MAX)
                .await
                .unwrap()
        };
        let answer = |status: u16| Response::builder().status(status);
        match self {
            Self::Status(status) => answer(status).body(PERSON.into()).unwrap(),
            Self::RetryAfter(status, value) => answer(status)
                .header(header::RETRY_AFTER, value)
                .body(PERSON.into())
                .unwrap(),
            Self::Answer(status, kind, body) => answer(status)
                .header(header::CONTENT_TYPE, kind)
                .body(body.into())
                .unwrap(),
            Self::Redirect(url) => answer(302)
                .header(header::LOCATION, url)
                .body(Body::empty())
                .unwrap(),
            Self::Reset => {
                wire.cut();
                good
            }
            Self::ResetMidBody => {
                let body = whole(good).await;
                let (first, rest) = (body.slice(..body.len() / 2), body.slice(body.len() / 2..));
                let wire = wire.clone();
                let parts = futures_util::stream::unfold(0, move |part| {
                    let (first, rest, wire) = (first.clone(), rest.clone(), wire.clone());
                    async move {
                        if part == 1 {
                            // Long enough for the first half to leave.
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            wire.cut();
                        }
                        let bytes = [first, rest].get(part).cloned()?;
                        Some((Ok::<_, std::io::Error>(bytes), part + 1))
                    }
                });
                answer(200)
                    .header(header::CONTENT_LENGTH, body.len())
                    .body(Body::from_stream(parts))
                    .unwrap()
            }
            Self::Truncated => {
                let body = whole(good).await;
                let half = futures_util::stream::iter([Ok::<_, std::io::Error>(
                    body.slice(..body.len() / 2),
                )]);
                answer(200)
                    .header(header::CONTENT_LENGTH, body.len())
                    .body(Body::from_stream(half))
                    .unwrap()
            }
            Self::Late(time) => {
                tokio::time::sleep(time).await;
                good
            }
            Self::Trickle(time) => {
                let body = whole(good).await;
                let bytes = futures_util::stream::unfold(0, move |at| {
                    let byte = (at < body.len()).then(|| body.slice(at..=at));
                    async move {
                        tokio::time::sleep(time).await;
                        Some((Ok::<_, std::io::Error>(byte?), at + 1))
                    }
                });
                answer(200).body(Body::from_stream(bytes)).unwrap()
            }
            Self::Endless => {
                let records = br#"{"id":1,"name":"Jane Doe"},"#.repeat(1000);
                let begin = Bytes::from_static(br#"{"total":1,"data":["#);
                answer(200)
                    .body(pour(begin, records.into(), pouring))
                    .unwrap()
            }
            Self::GzipBomb => answer(200)
                .header(header::CONTENT_ENCODING, "gzip")
                .body(pour(bomb_begin(), bomb_more(), pouring))
                .unwrap(),
            Self::Encoding(name) => {
                let mut good = good;
                good.headers_mut()
                    .insert(header::CONTENT_ENCODING, name.parse().unwrap());
                *good.status_mut() = StatusCode::OK;
                good
            }
        }
    }
}

/// A body of `begin` and then `more` for ever; counted while somebody reads it.
fn pour(begin: Bytes, more: Bytes, pouring: &Arc<AtomicUsize>) -> Body {
    struct Pouring(Arc<AtomicUsize>);
    impl Drop for Pouring {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    pouring.fetch_add(1, SeqCst);
    let guard = Pouring(Arc::clone(pouring));
    Body::from_stream(futures_util::stream::unfold(
        (Some(begin), guard),
        move |(begin, guard)| {
            let bytes = begin.unwrap_or_else(|| more.clone());
            async move { Some((Ok::<_, std::io::Error>(bytes), (None, guard))) }
        },
    ))
}

/// A gzip header, and one deflate block (fixed codes, the last) that begins with a space.
fn bomb_begin() -> Bytes {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut bits = Bits::default();
    bits.put(0b1, 1);
    bits.put(0b01, 2);
    // Literal 0x20, code 0x30 + 0x20, most significant bit first; then matches up to a whole byte.
    bits.put_code(0x50, 8);
    while !bits.count.is_multiple_of(8) {
        bits.put_match();
    }
    bytes.extend(bits.bytes);
    bytes.into()
}

/// 8000 times "the last byte, 258 times again".
fn bomb_more() -> Bytes {
    let mut bits = Bits::default();
    for _ in 0..8000 {
        bits.put_match();
    }
    bits.bytes.into()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn put(&mut self, bits: u32, width: usize) {
        for i in 0..width {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((bits >> i & 1) as u8) << (self.count % 8);
            self.count += 1;
        }
    }

    fn put_code(&mut self, code: u32, width: usize) {
        for i in (0..width).rev() {
            self.put(code >> i & 1, 1);
        }
    }

    /// Length 258 (symbol 285), distance 1 (symbol 0).
    fn put_match(&mut self) {
        self.put_code(0b1100_0101, 8);
        self.put_code(0, 5);
    }
}
