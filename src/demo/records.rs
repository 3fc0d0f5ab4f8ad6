//! What the records look like. A record is a function of seed, position and history, so that the
//! same seed gives the same company and five million people need no memory.
//!
//! The JSON is written by hand, in the order of the fields: rendering is the only work this API has.
//! No text in the tables below holds a character that JSON would have to escape.

use std::io::Write as _;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use fastrand::Rng;

/// The three collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Employees,
    Absences,
    Timesheets,
}

impl Kind {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "employees" => Some(Self::Employees),
            "absences" => Some(Self::Absences),
            "timesheets" => Some(Self::Timesheets),
            _ => None,
        }
    }

    /// Bytes of a rendered record, roughly and from above.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Employees => 840,
            Self::Absences => 340,
            Self::Timesheets => 290,
        }
    }
}

/// What happened to a record since the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct History {
    /// 1 as made, and one more for every change.
    pub(super) revision: u32,
    /// When it ended: left, cancelled, voided.
    pub(super) ended: Option<DateTime<Utc>>,
    /// When it was added while the API ran. `None`: there from the start.
    pub(super) added: Option<DateTime<Utc>>,
    /// When it last changed.
    pub(super) updated: DateTime<Utc>,
}

/// The company as a whole: what all records have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Company {
    pub(super) kind: Kind,
    pub(super) seed: u64,
    /// People at the start; absences and timesheets belong to them.
    pub(super) people: usize,
}

impl Company {
    /// A record that was there from the start and that nothing happened to since.
    pub(super) fn untouched(&self, index: usize) -> History {
        // Five years of microseconds.
        let micros = self.dice(index, 1).i64(0..157_000_000_000_000);
        History {
            revision: 1,
            ended: None,
            added: None,
            updated: start_of_records() + TimeDelta::microseconds(micros),
        }
    }

    /// Appends the record's JSON to `out`.
    pub(super) fn render(&self, index: usize, history: &History, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        match self.kind {
            Kind::Employees => self.employee(index, history, out),
            Kind::Absences => self.absence(index, history, out),
            Kind::Timesheets => self.timesheet(index, history, out),
        }
        .ok();
    }

    /// Fields that stay while a record changes draw from one stream, those that change from another.
    fn dice(&self, index: usize, stream: u64) -> Rng {
        let mut hash = self.seed ^ (self.kind as u64) << 56 ^ stream << 48 ^ index as u64;
        // The finisher of splitmix64: neighbours in, strangers out.
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng::with_seed(hash ^ (hash >> 31))
    }

    fn employee(&self, index: usize, history: &History, out: &mut Vec<u8>) -> std::io::Result<()> {
        let id = index + 1;
        let mut dice = self.dice(index, 2);
        let first = pick(&mut dice, FIRST_NAMES);
        let last = pick(&mut dice, LAST_NAMES);
        let (city, region, country, currency) = pick(&mut dice, CITIES);
        let (department, title) = pick(&mut dice, JOBS);
        let street = pick(&mut dice, STREETS);
        let born = day(1961, dice.u64(0..15_000));
        let hired = history
            .added
            .map_or_else(|| day(2009, dice.u64(0..5_400)), |at| at.date_naive());
        let part_time = dice.u8(..6) == 0;
        let manages = index.is_multiple_of(12);
        let remote = dice.bool();
        let phone = dice.u32(1_000_000..10_000_000);
        let house = dice.u16(1..180);
        let postal = dice.u32(10_000..99_999);
        let salary_cents = dice.u64(3_200_000..14_500_000);
        let first_left = (history.added.is_none() && dice.u8(..25) == 0)
            .then(|| day(2023, dice.u64(0..900)).max(hired));
        let ended = history.ended.map(|at| at.date_naive()).or(first_left);
        let status = match (ended, dice.u8(..30)) {
            (Some(_), _) => "terminated",
            (None, 0) => "on_leave",
            (None, _) => "active",
        };
        let boss = (index > 0)
            .then(|| (index / 12) * 12)
            .filter(|boss| *boss != index);
        // Each revision is a small raise: the digits differ, and so does the size now and then.
        let salary_cents = salary_cents + u64::from(history.revision - 1) * 12_345;

        write!(
            out,
            r#"{{"id":{id},"employee_number":"E-{id:07}","first_name":"{first}","last_name":"{last}","#
        )?;
        if dice.u8(..4) == 0 {
            let nick: String = first.chars().take(3).collect();
            write!(out, r#""preferred_name":"{nick}","#)?;
        } else {
            write!(out, r#""preferred_name":null,"#)?;
        }
        write!(
            out,
            r#""email":"e{id}@acme-hr.example","phone":"+49 30 {phone}","birth_date":"{born}","hired_on":"{hired}","#
        )?;
        match ended {
            Some(ended) => write!(out, r#""ended_on":"{ended}","#)?,
            None => write!(out, r#""ended_on":null,"#)?,
        }
        write!(
            out,
            r#""status":"{status}","job_title":"{title}","department":"{department}","cost_center":{},"employment_type":"{}","weekly_hours":{},"annual_salary":{}.{:02},"currency":"{currency}","is_manager":{manages},"works_remotely":{remote},"address":{{"street":"{street} {house}","city":"{city}","postal_code":"{postal:05}","region":{region},"country":"{country}"}},"#,
            4_000 + (index % 90) * 10,
            if part_time { "part_time" } else { "full_time" },
            if part_time { "22.5" } else { "40" },
            salary_cents / 100,
            salary_cents % 100,
        )?;
        match boss {
            Some(boss) => {
                let mut theirs = self.dice(boss, 2);
                write!(
                    out,
                    r#""manager":{{"id":{},"name":"{} {}"}},"#,
                    boss + 1,
                    pick(&mut theirs, FIRST_NAMES),
                    pick(&mut theirs, LAST_NAMES),
                )?;
            }
            None => write!(out, r#""manager":null,"#)?,
        }
        let skills = 1 + dice.usize(..3);
        let from = dice.usize(..SKILLS.len());
        out.extend_from_slice(br#""skills":["#);
        for (n, skill) in SKILLS.iter().cycle().skip(from).take(skills).enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(out, r#"{comma}"{skill}""#)?;
        }
        let about = pick(&mut dice, ABOUT);
        let created = history
            .added
            .unwrap_or_else(|| midnight(hired) + TimeDelta::seconds(dice.i64(21_600..68_400)));
        write!(
            out,
            r#"],"about":"{about}","revision":{},"created_at":"{}","updated_at":"{}"}}"#,
            history.revision,
            Stamp(created),
            Stamp(history.updated),
        )
    }

    fn absence(&self, index: usize, history: &History, out: &mut Vec<u8>) -> std::io::Result<()> {
        let id = index + 1;
        let mut dice = self.dice(index, 2);
        let employee = self.someone(&mut dice);
        let kind = pick(&mut dice, ABSENCES);
        let starts = history
            .added
            .map_or_else(|| day(2021, dice.u64(0..1_700)), |at| at.date_naive());
        let half = dice.u8(..7) == 0;
        let length = dice.u64(0..15);
        let ends = if half { starts } else { plus(starts, length) };
        let status = match (history.ended, history.revision, dice.u8(..20)) {
            (Some(_), ..) => "cancelled",
            (None, 2.., _) | (None, _, 1..) => "approved",
            (None, ..) => "requested",
        };
        write!(
            out,
            r#"{{"id":"abs_{id:08x}","employee_id":{employee},"type":"{kind}","status":"{status}","starts_on":"{starts}","ends_on":"{ends}","days":{},"half_day":{half},"comment":{},"approved_by":{},"revision":{},"created_at":"{}","updated_at":"{}"}}"#,
            if half {
                "0.5".to_owned()
            } else {
                (length + 1).to_string()
            },
            pick(&mut dice, COMMENTS),
            if status == "approved" {
                self.someone(&mut dice).to_string()
            } else {
                "null".to_owned()
            },
            history.revision,
            Stamp(
                history
                    .added
                    .unwrap_or_else(|| midnight(starts) - TimeDelta::days(20))
            ),
            Stamp(history.updated),
        )
    }

    fn timesheet(&self, index: usize, history: &History, out: &mut Vec<u8>) -> std::io::Result<()> {
        let id = index + 1;
        let mut dice = self.dice(index, 2);
        let employee = self.someone(&mut dice);
        let worked_on = history
            .added
            .map_or_else(|| day(2024, dice.u64(0..700)), |at| at.date_naive());
        let minutes = dice.u32(180..620) + (history.revision - 1) * 5;
        let pause = dice.u32(0..4) * 15;
        let status = match (history.ended, dice.u8(..5)) {
            (Some(_), _) => "voided",
            (None, 0) => "submitted",
            (None, _) => "approved",
        };
        write!(
            out,
            r#"{{"id":{id},"employee_id":{employee},"worked_on":"{worked_on}","hours":{}.{:02},"break_minutes":{pause},"project":{{"code":"P-{:03}","name":"{}"}},"billable":{},"status":"{status}","revision":{},"updated_at":"{}"}}"#,
            minutes / 60,
            minutes % 60 * 100 / 60,
            dice.u16(1..400),
            pick(&mut dice, PROJECTS),
            dice.bool(),
            history.revision,
            Stamp(history.updated),
        )
    }

    fn someone(&self, dice: &mut Rng) -> usize {
        dice.usize(..self.people.max(1)) + 1
    }
}

/// RFC 3339 in UTC with six digits. chrono's own formatter took half of the time of a record.
struct Stamp(DateTime<Utc>);

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use chrono::Timelike as _;
        let time = self.0.time();
        write!(
            f,
            "{}T{:02}:{:02}:{:02}.{:06}Z",
            self.0.date_naive(),
            time.hour(),
            time.minute(),
            time.second(),
            self.0.timestamp_subsec_micros() % 1_000_000,
        )
    }
}

fn pick<T: Copy>(dice: &mut Rng, from: &[T]) -> T {
    #[expect(
        clippy::indexing_slicing,
        reason = "the index is drawn below the length, and no table is empty"
    )]
    from[dice.usize(..from.len())]
}

fn start_of_records() -> DateTime<Utc> {
    DateTime::from_timestamp(1_609_459_200, 0).unwrap_or_default()
}

fn midnight(date: NaiveDate) -> DateTime<Utc> {
    date.and_time(chrono::NaiveTime::MIN).and_utc()
}

fn day(year: i32, offset: u64) -> NaiveDate {
    plus(
        NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default(),
        offset,
    )
}

fn plus(date: NaiveDate, days: u64) -> NaiveDate {
    date.checked_add_days(Days::new(days)).unwrap_or(date)
}

const FIRST_NAMES: &[&str] = &[
    "Anna",
    "Björn",
    "Chloë",
    "Đorđe",
    "Émilie",
    "Fatma",
    "Gökhan",
    "Hélène",
    "Ingrid",
    "José",
    "Kateřina",
    "Łukasz",
    "María",
    "Niño",
    "Olena",
    "Πέτρος",
    "Quynh",
    "Renée",
    "Søren",
    "Tomáš",
    "Ümit",
    "Věra",
    "Wilhelmina",
    "Xiùyīng",
    "Yūki",
    "Zoë",
    "Иван",
    "美咲",
    "سارة",
    "Aoife",
];

const LAST_NAMES: &[&str] = &[
    "Müller",
    "O’Connor",
    "García-López",
    "Kowalczyk",
    "Nguyễn",
    "Sørensen",
    "Dvořák",
    "Şahin",
    "Lefèvre",
    "Jónsdóttir",
    "Παπαδόπουλος",
    "Шевченко",
    "佐藤",
    "van den Berg",
    "D’Angelo",
    "Åkesson",
    "Fernández",
    "Horváth",
    "Smith",
    "Öztürk",
    "Weiß",
    "Almeida",
    "Bianchi",
    "Ionescu",
    "Kim",
];

/// City, region as JSON, country, currency.
const CITIES: &[(&str, &str, &str, &str)] = &[
    ("Berlin", "null", "DE", "EUR"),
    ("München", r#""Bayern""#, "DE", "EUR"),
    ("Kraków", r#""Małopolskie""#, "PL", "PLN"),
    ("Århus", "null", "DK", "DKK"),
    ("São Paulo", r#""SP""#, "BR", "BRL"),
    ("Zürich", r#""ZH""#, "CH", "CHF"),
    ("Montréal", r#""Québec""#, "CA", "CAD"),
    ("東京", "null", "JP", "JPY"),
    ("İstanbul", "null", "TR", "TRY"),
    ("Dublin", "null", "IE", "EUR"),
];

const STREETS: &[&str] = &[
    "Lindenstraße",
    "Rue de l’Église",
    "Calle Mayor",
    "Hauptplatz",
    "Østergade",
    "Długa",
    "Grafton Street",
    "Avenida Paulista",
    "Bahnhofstrasse",
    "İstiklal Caddesi",
];

const JOBS: &[(&str, &str)] = &[
    ("Engineering", "Software Engineer"),
    ("Engineering", "Site Reliability Engineer"),
    ("People", "HR Business Partner"),
    ("People", "Recruiter"),
    ("Finance", "Payroll Specialist"),
    ("Finance", "Controller"),
    ("Sales", "Account Executive"),
    ("Support", "Customer Support Agent"),
    ("Operations", "Warehouse Lead"),
    ("Legal", "Counsel"),
];

const SKILLS: &[&str] = &[
    "SQL",
    "Rust",
    "negotiation",
    "first aid",
    "français",
    "forklift",
    "accounting",
    "español",
    "facilitation",
    "日本語",
    "payroll",
    "data protection",
];

const ABOUT: &[&str] = &[
    "Joined as a graduate & moved between teams since; likes long walks.",
    "Keeps the month-end close calm — ask about the lamp story (2019).",
    "On call every sixth week. Prefers e-mail to chat; tea, never coffee.",
    "Leads the onboarding circle and is the floor’s first-aid contact.",
];

const ABSENCES: &[&str] = &["vacation", "sick", "parental", "unpaid", "training"];

const COMMENTS: &[&str] = &["null", "null", r#""Überstundenausgleich""#, r#""family""#];

const PROJECTS: &[&str] = &[
    "Umzug Süd",
    "Payroll 2.0",
    "Año Nuevo",
    "Intranet",
    "ISO 27001",
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn company(kind: Kind) -> Company {
        Company {
            kind,
            seed: 7,
            people: 1_000,
        }
    }

    fn employee(index: usize, history: &History) -> Value {
        let mut out = Vec::new();
        company(Kind::Employees).render(index, history, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_record_is_json_and_about_as_large_as_said() {
        for kind in [Kind::Employees, Kind::Absences, Kind::Timesheets] {
            let company = company(kind);
            let mut out = Vec::new();
            for index in 0..2_000 {
                let from = out.len();
                company.render(index, &company.untouched(index), &mut out);
                serde_json::from_slice::<Value>(&out[from..]).unwrap();
            }
            let mean = out.len() / 2_000;
            assert!(mean < kind.size(), "{kind:?}: {mean}");
            if kind == Kind::Employees {
                assert!((760..840).contains(&mean), "{mean}");
            }
        }
    }

    #[test]
    fn an_employee_has_27_fields_of_every_shape() {
        let record = employee(5, &company(Kind::Employees).untouched(5));
        let fields = record.as_object().unwrap();
        assert_eq!(fields.len(), 27);
        assert!(fields["address"].is_object() && fields["manager"].is_object());
        assert!(fields["skills"].is_array() && fields["is_manager"].is_boolean());
        assert!(fields.values().any(Value::is_null));
        assert!(fields["annual_salary"].to_string().contains('.'));
    }

    #[test]
    fn a_change_shows_and_an_end_leaves_a_date() {
        let untouched = company(Kind::Employees).untouched(9);
        let before = employee(9, &untouched);
        let changed = History {
            revision: 2,
            ..untouched
        };
        let after = employee(9, &changed);
        assert_ne!(before["annual_salary"], after["annual_salary"]);
        assert_eq!(before["first_name"], after["first_name"]);
        let ended = History {
            ended: Some(start_of_records()),
            ..changed
        };
        let left = employee(9, &ended);
        assert_eq!(left["status"], "terminated");
        assert_eq!(left["ended_on"], "2021-01-01");
    }
}
