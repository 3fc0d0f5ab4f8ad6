//! `JazzHR`: a key in the query, the page's number in the path, an empty page at the end.

use serde_json::{Value, json};

use super::{
    Stage,
    fake::{Answer, Asked, Data, Fake, route, slice},
};

fn jobs(asked: &Asked, data: &mut Data) -> Answer {
    if asked.param("apikey") != Some("j-key") {
        return Answer::json(&json!({"error": "Not Authorized"})).status(401);
    }
    let number: usize = asked.places[0].parse().unwrap();
    let (page, _) = slice(&data["jobs"], (number - 1) * 2, 2);
    Answer::json(&page.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn jazzhr_pages_stand_in_the_path() {
    let fake = Fake::new(|_| None, [route("GET", "/v1/jobs/page/{}", jobs)]).await;
    let job = |id: &str, status: &str| json!({"id": id, "title": "Cook", "status": status, "comments": "x"});
    for id in ["job_1", "job_2", "job_3"] {
        fake.put("jobs", job(id, "Open"));
    }
    let stage = Stage::new("jazzhr", fake, &[("JAZZHR_API_KEY", "j-key")]).await;
    let requests = stage.sync("jobs").await;
    for page in 1..=3 {
        let wanted = format!("GET /v1/jobs/page/{page}?apikey=j-key");
        assert!(requests.contains(&wanted), "{wanted}: {requests:?}");
    }
    assert_eq!(
        stage.columns("jazzhr.jobs").await,
        ["id", "status", "title"]
    );
    stage.fake.change("jobs", |all| {
        all[1] = job("job_2", "Filled");
    });
    stage.sync("jobs").await;
    assert_eq!(stage.counts().await, "0 1 2 0");
    let kept: Value = stage.rows("select coalesce(error_message, '') || coalesce(error_hint, '') as said from rosterd.runs").await;
    assert!(!kept.to_string().contains("j-key"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jazzhr_applicants_are_list_and_detail_in_one_row() {
    let list = |asked: &Asked, data: &mut Data| {
        let number: usize = asked.places[0].parse().unwrap();
        let (page, _) = slice(&data["applicants"], (number - 1) * 2, 2);
        Answer::json(&page.into())
    };
    let detail = |asked: &Asked, _: &mut Data| match asked.places[0].as_str() {
        "prospect_2" => Answer::empty(400),
        id => Answer::json(&json!({"id": id, "source": "referral", "email": "x@x.example"})),
    };
    let routes = [
        route("GET", "/v1/applicants/page/{}", list),
        route("GET", "/v1/applicants/{}", detail),
    ];
    let fake = Fake::new(|_| None, routes).await;
    for id in ["prospect_1", "prospect_2", "prospect_3"] {
        fake.put(
            "applicants",
            json!({"id": id, "first_name": "Jo", "prospect_phone": "1"}),
        );
    }
    let stage = Stage::new("jazzhr", fake, &[("JAZZHR_API_KEY", "j-key")]).await;
    let outcome = stage.run("applicants").await;
    assert_eq!(
        stage
            .rows("select id, first_name, source from jazzhr.applicants order by id")
            .await,
        json!([
            {"id": "prospect_1", "first_name": "Jo", "source": "referral"},
            {"id": "prospect_2", "first_name": "Jo", "source": null},
            {"id": "prospect_3", "first_name": "Jo", "source": "referral"},
        ]),
        "{outcome:?}"
    );
    assert_eq!(
        stage.columns("jazzhr.applicants").await,
        ["first_name", "id", "source"]
    );
}
