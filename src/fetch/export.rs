//! An export: create it, ask for its state until it is there, and say where it is to be fetched.
//!
//! All requests go the way of any other: under the limits, signed, tried again, judged by the rules. A
//! URL on another origin gets neither key nor headers.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::{
    Api, Error,
    address::{host_of, same_origin},
    client::Client,
    decode::{Decoder, found_at, shown},
    link,
    request::{Draft, Template, join},
    retry::{Job, Judged},
};
use crate::config::{
    self,
    endpoint::{DottedPath, Endpoint},
    export::{Download, Export},
    template::{self, Piece, Place, path_segment, text_of},
};

impl Api {
    /// Creates an export by the walk's own request, and waits until it is there. Returns the request
    /// that fetches it, with the client for it where that is not the API's.
    pub(super) async fn export(
        &self,
        export: &Export,
        template: &Template,
        job: &Job,
    ) -> Result<(Draft, Option<Arc<Client>>), Error> {
        let page = job.page;
        let plain = Arc::new(Decoder::new(&Endpoint::default(), self.config.max_body));
        let ask = async |draft: Draft| {
            let job = Job {
                draft,
                decoder: Arc::clone(&plain),
                ..job.clone()
            };
            self.document(&job).await
        };
        let created = ask(job.draft.clone()).await?;
        let base = self.base_for(&job.credential).await?;
        let poll = place(&base, &export.poll_path, &created, page)?;
        let deadline = Instant::now() + export.max_time;
        loop {
            let wait = tokio::time::sleep(export.interval);
            tokio::select! {
                biased;
                () = job.cancel.cancelled() => return Err(Error::Cancelled),
                () = wait => {}
            }
            let state = ask(template.get(poll.clone())).await?;
            let status = field(&state, &export.status_path, "(status_path)", page)?;
            if export.failed.contains(&status) {
                return Err(Error::ExportFailed);
            }
            if export.done.contains(&status) {
                let url = match &export.download {
                    Download::Path(path) => place(&base, path, &created, page)?,
                    Download::Url(path) => {
                        let text = field(&state, path, "(url_path)", page)?;
                        poll.join(&text).map_err(|_| Error::ForeignLink {
                            host: "an unreadable place".into(),
                        })?
                    }
                };
                return self.fetching(url, &base, export, template);
            }
            if Instant::now() + export.interval > deadline {
                return Err(Error::ExportTimeout {
                    after: export.max_time,
                });
            }
        }
    }

    /// An answer that is one JSON document and no page.
    async fn document(&self, job: &Job) -> Result<Value, Error> {
        let (judged, permit) = self.open(job).await?;
        drop(permit);
        let answer = match judged {
            Judged::Page(answer) => answer,
            Judged::Empty(answer) => return Err(Error::EmptyBody { at: answer.at }),
            Judged::Open(head) => self.client.read(*head).await?,
        };
        job.tally.bytes(answer.body.len());
        serde_json::from_slice(&answer.body).map_err(|e| Error::InvalidJson {
            offset: e.column() as u64,
            truncated: e.is_eof(),
            at: answer.at,
        })
    }

    fn fetching(
        &self,
        url: Url,
        base: &Url,
        export: &Export,
        template: &Template,
    ) -> Result<(Draft, Option<Arc<Client>>), Error> {
        if url.as_str().len() > link::MAX {
            return Err(Error::ForeignLink {
                host: host_of(&url),
            });
        }
        if same_origin(base, &url) {
            return Ok((template.get(url), None));
        }
        let Some(origin) = export.origins.iter().find(|o| same_origin(o, &url)) else {
            return Err(Error::ForeignLink {
                host: host_of(&url),
            });
        };
        let bare = config::source::Client {
            base_url: origin.clone(),
            headers: IndexMap::new(),
            auth: None,
            network: config::source::Network {
                identity: None,
                ..self.config.network.clone()
            },
            ..self.config.clone()
        };
        let draft = Draft {
            method: reqwest::Method::GET,
            url,
            shown: None,
            headers: reqwest::header::HeaderMap::new(),
            body: None,
        };
        Ok((draft, Some(Arc::new(Client::new(&bare)?))))
    }
}

/// A configured path with fields of the first answer in it.
fn place(base: &Url, path: &str, created: &Value, page: u64) -> Result<Url, Error> {
    let mut filled = String::new();
    for piece in template::pieces(path).unwrap_or_default() {
        match piece {
            // A brace of the path's own; what is filled in has none.
            Piece::Text(text) => filled.push_str(&text),
            Piece::Place(Place::Export(path)) => {
                let text = field(created, &path, "(of {export...})", page)?;
                filled.push_str(&path_segment(&text));
            }
            // Refused when the configuration was read.
            Piece::Place(_) => return Err(Error::NoStartValue),
        }
    }
    join(base, &filled)
}

/// A field that must be there, as text.
fn field(value: &Value, path: &DottedPath, what: &'static str, page: u64) -> Result<String, Error> {
    let text = found_at(value, path).filter(|v| !v.is_array() && !v.is_object());
    let text = text.and_then(text_of).filter(|text| !text.is_empty());
    text.ok_or_else(|| Error::UnexpectedShape {
        path: format!("{} {what}", shown(path)).into(),
        what: "is not in the answer about the export",
        page,
    })
}
