//! The last runs of a resource as small bars: how long they took, and how they ended.

use maud::{Markup, html};

use super::words::{counted, span};
use crate::record::report::{DURATIONS, Took};

const HEIGHT: f64 = 26.0;
const STEP: f64 = 6.0;
const BAR: f64 = 4.0;

/// The bars, the newest at the right, or nothing when there was no run.
pub(super) fn sparkline(runs: &[Took]) -> Markup {
    let longest = runs.iter().map(|r| r.seconds).fold(0.0, f64::max);
    let width = DURATIONS as f64 * STEP;
    let free = width - runs.len() as f64 * STEP;
    html! {
        @if !runs.is_empty() {
            svg.sparkline role="img" aria-label=(in_words(runs, longest)) width=(width) height=(HEIGHT)
                viewBox={ "0 0 " (width) " " (HEIGHT) } {
                @for (place, run) in runs.iter().enumerate() {
                    @let bar = bar(run.seconds, longest);
                    rect class=(kind(&run.status)) x=(free + place as f64 * STEP) y=(HEIGHT - bar)
                        width=(BAR) height=(bar) rx="1" {
                        title { "run " (run.run_id) ": " (run.status) ", " (span(run.seconds)) }
                    }
                }
            }
        }
    }
}

/// Rooted, so that one very long run does not flatten the others to nothing.
fn bar(seconds: f64, longest: f64) -> f64 {
    let share = if longest > 0.0 {
        (seconds / longest).max(0.0).sqrt()
    } else {
        0.0
    };
    (share * HEIGHT).max(2.0).round()
}

fn kind(status: &str) -> &'static str {
    match status {
        "succeeded" => "fine",
        "failed" => "bad",
        _ => "fair",
    }
}

fn in_words(runs: &[Took], longest: f64) -> String {
    let mut seconds: Vec<f64> = runs.iter().map(|r| r.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
    let runs_in_words = counted(
        i64::try_from(runs.len()).unwrap_or(i64::MAX),
        "last run",
        "last runs",
    );
    let failed = runs.iter().filter(|r| r.status == "failed").count();
    format!(
        "{runs_in_words}: typically {}, longest {}, {failed} failed",
        span(median),
        span(longest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_in_their_box_whatever_the_durations() {
        for seconds in [0.0, -1.0, 1e-9, 0.5, 1.0, 1e12] {
            let bar = bar(seconds, 1e12);
            assert!((2.0..=HEIGHT).contains(&bar), "{seconds}: {bar}");
        }
        assert!(bar(0.0, 0.0) >= 2.0);
    }

    #[test]
    fn says_in_words_what_it_shows() {
        let run = |status: &str, seconds| Took {
            run_id: 1,
            status: status.to_owned(),
            seconds,
        };
        let runs = [
            run("succeeded", 2.0),
            run("failed", 1.0),
            run("succeeded", 9.0),
        ];
        let markup = sparkline(&runs).into_string();
        assert!(markup.contains("3 last runs: typically 2.0 s, longest 9.0 s, 1 failed"));
        assert_eq!(sparkline(&[]).into_string(), "");
    }
}
