//! The commands as a new user tries them, one after the other.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    api::Api,
    daemon::{Daemon, Setup},
    db::TestDb,
};

/// Runs a command to its end. Answers exit code, stdout and stderr without the log's lines.
fn run(config: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut process: Daemon = Setup::command(config.to_owned(), arguments).start();
    let code = process.wait().code().unwrap();
    let stderr = process.stderr();
    let said: Vec<&str> = stderr.lines().filter(|l| !l.starts_with('{')).collect();
    (code, process.stdout(), said.join("\n"))
}

#[test]
fn a_first_configuration_is_written_once_and_checked_with_all_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.yaml");
    let path = file.to_str().unwrap();
    assert_eq!(run("", &["init", "-o", path]).0, 0);
    let (code, _, said) = run("", &["init", "-o", path]);
    assert_eq!(code, 1);
    assert!(said.contains("is there already"), "{said}");
    assert!(Path::new(path).exists());

    let (code, out, said) = run("", &["check", "-c", path]);
    assert_eq!((code, out.as_str()), (2, ""));
    for part in [
        "mine.yaml:",
        "HR_API_URL is not set",
        "HR_API_KEY is not set",
        "2 problems",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, out, _) = run("", &["schema"]);
    assert_eq!(code, 0);
    assert!(serde_json::from_str::<Value>(&out).unwrap()["properties"]["sources"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run("", &["completions", shell]);
        assert!(code == 0 && out.contains("rosterd"), "{shell}");
    }
    let (code, _, said) = run("", &["no-such-command"]);
    assert!(code == 2 && said.contains("Usage"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_on_a_new_database_and_says_what_it_did() {
    let db = TestDb::unmigrated().await;
    let api = Api::start().await;
    api.collection("employees").fill(30);
    let config = format!(
        "database: {{url: '{}'}}
daemon: {{admin: {{listen: null}}}}
sources:
  hr:
    client:
      base_url: {}
      auth: {{type: bearer, token: a-secret-token-of-this-test}}
    resources:
      - name: employees
        primary_key: id
        write_disposition: merge
        schedule: every 1d
        endpoint: {{path: /v1/employees, data_selector: data, paginator: {{type: offset, limit: 10}}}}
",
        db.url(),
        api.url()
    );
    let (code, _, said) = run(&config, &["status"]);
    assert!(code == 1 && said.contains("rosterd migrate"), "{said}");

    let (code, out, _) = run(&config, &["check"]);
    assert!(
        code == 0 && out.contains("employees -> hr.employees: merge on id"),
        "{out}"
    );
    let (code, out, _) = run(&config, &["check", "--print"]);
    assert!(code == 0 && out.contains("***"), "{out}");
    assert!(!out.contains("a-secret-token"), "{out}");
    let (code, out, said) = run(&config, &["check", "--connect"]);
    assert_eq!(code, 0, "{out}{said}");
    assert!(
        out.contains("ok      database") && out.contains("10 records on the first page"),
        "{out}"
    );

    let (code, _, said) = run(&config, &["migrate"]);
    assert!(
        code == 0 && said.contains("schema rosterd is at version"),
        "{said}"
    );
    let (code, out, said) = run(&config, &["status", "--format", "json"]);
    assert_eq!((code, out.trim()), (0, "[]"), "{said}");
    assert!(said.contains("no resources yet"), "{said}");

    let (code, out, said) = run(&config, &["preview", "hr/employees"]);
    assert_eq!(code, 0, "{said}");
    for part in [
        "/v1/employees?",
        "Person 1",
        "salary",
        "create table",
        "10 would be inserted",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let written: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_namespace where nspname = 'hr') + (select count(*) from rosterd.runs)",
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!(written, 0, "a preview writes nothing");

    let (code, _, said) = run(&config, &["sync"]);
    assert!(code == 0 && said.contains("30 inserted"), "{said}");
    let (_, out, _) = run(&config, &["runs", "--format", "json"]);
    let runs: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(runs[0]["status"], "succeeded");
    let (_, out, _) = run(&config, &["runs"]);
    assert!(
        out.contains("hr/employees") && out.contains("succeeded"),
        "{out}"
    );

    for (arguments, answer, health) in [
        (
            &["pause", "hr/employees", "--reason", "audit"][..],
            "paused",
            "paused",
        ),
        (&["resume", "hr/employees"], "scheduled again", "ok"),
        (&["reset", "hr/employees"], "reads everything", "ok"),
    ] {
        let (code, _, said) = run(&config, arguments);
        assert!(code == 0 && said.contains(answer), "{arguments:?}: {said}");
        let (code, out, _) = run(&config, &["status", "--format", "json"]);
        let status: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(status[0]["health"], health, "{arguments:?}");
        assert_eq!(code, 0);
    }
    for arguments in [
        ["sync", "hr/nobody"],
        ["reset", "nobody"],
        ["preview", "hr/nobody"],
    ] {
        let (code, _, said) = run(&config, &arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains("there are: hr/employees"), "{said}");
    }
}
