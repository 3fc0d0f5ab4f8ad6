//! Where the key goes.

use rosterd::fetch;

use super::{auth_of, expect_all, plan, source, walk, yaml};
use crate::support::api::{Api, Fault, Key, Paging};

#[tokio::test]
async fn a_key_goes_to_its_origin_only_and_is_shown_nowhere() {
    for (auth, key) in [
        (
            "{type: api_key, name: x-key, api_key: s3cret, location: param}",
            Key::Query("x-key", "s3cret"),
        ),
        (
            "{type: api_key, name: x-key, api_key: s3cret}",
            Key::Header("x-key", "s3cret"),
        ),
        (
            "{type: api_key, api_key: s3cret, template: 'Token token={key}'}",
            Key::Header("authorization", "Token token=s3cret"),
        ),
        (
            "{type: api_key, api_key: s3cret, template: 'AfasToken {key.base64}'}",
            Key::Header("authorization", "AfasToken czNjcmV0"),
        ),
        (
            "{type: api_key, name: x-key, api_key: s3cret, location: cookie}",
            Key::Header("cookie", "x-key=s3cret"),
        ),
        (
            "{token: s3cret}",
            Key::Header("authorization", "Bearer s3cret"),
        ),
        (
            "{token: s3cret, scheme: SSWS}",
            Key::Header("authorization", "SSWS s3cret"),
        ),
        (
            "{type: http_basic, username: me, password: s3cret}",
            Key::Header("authorization", "Basic bWU6czNjcmV0"),
        ),
        (
            "{type: http_basic, username: s3cret}",
            Key::Header("authorization", "Basic czNjcmV0Og=="),
        ),
    ] {
        let auth = auth_of(auth);
        let api = Api::start().await;
        let evil = Api::start().await;
        api.require(key);
        // Links that carry all parameters of the request, the key among them.
        api.collection("employees")
            .fill(25)
            .page_size(10)
            .paging(Paging::JsonLink);
        let mut keyed = source(&api.url());
        keyed.client.auth = Some(auth);
        let links = || plan(yaml("json_link"));
        let walked = walk(&keyed, links()).await;
        expect_all(&walked, 25);
        assert!(
            !format!(
                "{:?}",
                walked.pages.iter().map(|p| &p.next).collect::<Vec<_>>()
            )
            .contains("s3cret")
        );
        assert!(!format!("{:?}", fetch::Api::new(&keyed).unwrap()).contains("s3cret"));
        let requests = api.requests();
        assert!(
            requests
                .iter()
                .all(|seen| seen.target.matches("s3cret").count() <= 1)
        );
        assert!(
            requests
                .iter()
                .all(|seen| !seen.headers.contains_key("referer"))
        );

        for (fault, code) in [
            (
                Fault::Redirect(format!("{}/v1/employees", evil.url())),
                "redirect_refused",
            ),
            (
                Fault::Answer(
                    200,
                    "application/json",
                    format!(r#"{{"data":[],"next":"{}/x"}}"#, evil.url()).into(),
                ),
                "foreign_next_link",
            ),
        ] {
            api.page(0).goes(fault).once();
            let error = walk(&keyed, links()).await.end.unwrap_err();
            assert_eq!(error.fault().code, code);
            assert!(!format!("{error} {error:?} {:?}", error.fault()).contains("s3cret"));
        }
        assert!(evil.requests().is_empty());
    }
}
