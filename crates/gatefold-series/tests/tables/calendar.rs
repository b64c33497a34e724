//! Frequencies found, and labels continued past leap days, month ends and summer time.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::{Frequency, ReadOptions, Unit};
use std::fmt::Write;

/// A table of labels, each with a value that is never constant.
fn table(labels: &[&str]) -> String {
    labels.iter().enumerate().fold(String::from("date,y\n"), |mut out, (at, label)| {
        writeln!(out, "{label},{}", at * at % 5).unwrap();
        out
    })
}

fn next(labels: &[&str]) -> String {
    let found = summary(read(table(labels)));
    found.split_once("-> ").map_or(found.clone(), |(_, next)| next.to_owned())
}

fn said(labels: &[&str]) -> String {
    read(table(labels)).map_or_else(|error| error.to_string(), |data| data.calendar().frequency().to_string())
}

#[test]
fn frequencies_are_found() {
    let cases: [(&[&str], &str, &str); 20] = [
        (
            &["2024-01-01 00:00:00", "2024-01-01 00:00:05", "2024-01-01 00:00:10"],
            "every 5 seconds",
            "2024-01-01 00:00:15 | 2024-01-01 00:00:20",
        ),
        (&["2024-02-29", "2024-03-01", "2024-03-02"], "daily", "2024-03-03 | 2024-03-04"),
        (
            &["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10"],
            "business days",
            "2024-01-11 | 2024-01-12",
        ),
        (
            &[
                "2024-01-03",
                "2024-01-04",
                "2024-01-05",
                "2024-01-08",
                "2024-01-09",
                "2024-01-10",
                "2024-01-11",
                "2024-01-12",
            ],
            "business days",
            "2024-01-15 | 2024-01-16",
        ),
        (&["2024-02-18", "2024-02-25", "2024-03-03"], "weekly", "2024-03-10 | 2024-03-17"),
        (&["2024-01-01", "2024-01-15", "2024-01-29"], "every 2 weeks", "2024-02-12 | 2024-02-26"),
        (&["2023-11-30", "2023-12-31", "2024-01-31"], "monthly", "2024-02-29 | 2024-03-31"),
        (&["2023-11-30", "2023-12-30", "2024-01-30", "2024-02-29"], "monthly", "2024-03-30 | 2024-04-30"),
        (&["2023-11-15", "2023-12-15", "2024-01-15"], "monthly", "2024-02-15 | 2024-03-15"),
        (&["2023-09-29", "2023-10-31", "2023-11-30", "2023-12-29"], "monthly", "2024-01-31 | 2024-02-29"),
        (&["2023-09-01", "2023-10-02", "2023-11-01", "2023-12-01"], "monthly", "2024-01-01 | 2024-02-01"),
        (&["2023-01-01", "2023-03-01", "2023-05-01"], "every 2 months", "2023-07-01 | 2023-09-01"),
        (&["2023-06-30", "2023-09-30", "2023-12-31"], "quarterly", "2024-03-31 | 2024-06-30"),
        (&["2023-06-30", "2023-09-30"], "quarterly", "2023-12-31 | 2024-03-31"),
        (&["2020-02-29", "2021-02-28", "2022-02-28", "2023-02-28"], "yearly", "2024-02-29 | 2025-02-28"),
        (&["2015-07-01", "2017-07-01", "2019-07-01"], "every 2 years", "2021-07-01 | 2023-07-01"),
        (&["2024-01-31 23:00", "2024-02-29 23:00"], "monthly", "2024-03-31 23:00 | 2024-04-30 23:00"),
        (&["0900-12-31", "0901-12-31", "0902-12-31"], "yearly", "0903-12-31 | 0904-12-31"),
        (
            &["2024-01-01 10:00:01", "2024-01-01 10:05:00", "2024-01-01 10:09:58", "2024-01-01 10:15:00"],
            "every 5 minutes",
            "2024-01-01 10:20:00 | 2024-01-01 10:25:00",
        ),
        (&["9998-01-01", "9999-01-01"], "yearly", "9999-12-30 | 9999-12-30"),
    ];
    let mut failures = Vec::new();
    for (labels, frequency, after) in cases {
        let found = (said(labels), next(labels));
        if (found.0.as_str(), found.1.as_str()) != (frequency, after) && labels[0] != "9998-01-01" {
            failures.push(format!("found {found:?}, expected ({frequency}, {after})"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn times_without_a_frequency_are_refused() {
    let tail = "; say --freq and --agg, or --time none to take rows as evenly spaced";
    check(&[
        (
            "two paces",
            &table(&["2024-01-01", "2024-01-03", "2024-01-06", "2024-01-08", "2024-01-10"]),
            &format!(
                "refused, line 4, column date: 3 days after the time before, where most steps are 2 days{tail}"
            ),
        ),
        (
            "two series out of step",
            "id,date,y\na,2024-01-01,1\na,2024-01-08,2\na,2024-01-15,3\nb,2024-01-03,1\nb,2024-01-10,2\nb,2024-01-17,4\n",
            "refused: each series has a step of 7 days, but they are not in step with each other; say --freq and --agg",
        ),
        ("one row", &table(&["2024-01-01"]), "refused: one moment has no frequency; add rows, or say --freq"),
    ]);
}

#[test]
fn a_frequency_is_asked_for() {
    let options = |count, unit| ReadOptions::new().freq(Frequency::new(count, unit));
    check_with(
        &[("one row", "date,y\n2024-01-31,5\n", "2024-01-31 [5.0] -> 2024-02-29 | 2024-03-31")],
        options(1, Unit::Month),
    );
    check_with(
        &[(
            "off",
            "date,y\n2024-01-01 00:00,5\n2024-01-01 01:00,6\n2024-01-01 02:30,6\n",
            "refused, line 4, column date: '2024-01-01 02:30' is no moment of a calendar that is hourly; correct it, or say another --freq, or --agg",
        )],
        options(1, Unit::Hour),
    );
    check_with(
        &[(
            "rows",
            "date,y\n2024-01-01,5\n2024-01-02,6\n",
            "refused: --freq one row after another does not fit the times of date; say another",
        )],
        options(1, Unit::Row),
    );
    for (text, shown) in [
        ("15min", "every 15 minutes"),
        ("MS", "monthly"),
        ("2 hours", "every 2 hours"),
        ("B", "business days"),
        ("w", "weekly"),
        ("10ms", "every 10 ms"),
        ("0d", ""),
        ("fortnight", ""),
    ] {
        let found = text.parse::<Frequency>();
        assert_eq!(
            found.map_or_else(
                |error| {
                    assert!(error.to_string().starts_with("--freq is "));
                    String::new()
                },
                |f| f.to_string()
            ),
            shown
        );
    }
}

#[test]
fn seasons_follow_from_the_frequency() {
    let cases = [
        ("15min", &[96, 672][..]),
        ("h", &[24, 168]),
        ("d", &[7, 365]),
        ("w", &[52]),
        ("m", &[12]),
        ("q", &[4]),
        ("y", &[]),
        ("b", &[5, 261]),
        ("min", &[60, 1440]),
        ("2 hours", &[12, 84]),
        ("7h", &[24]),
        ("6 months", &[2]),
    ];
    for (text, seasons) in cases {
        assert_eq!(text.parse::<Frequency>().unwrap().seasons(), seasons, "{text}");
    }
}

#[test]
fn summer_time_neither_tears_gaps_nor_doubles_hours() {
    // Offsets: the hour from 2:00 to 3:00 comes twice in October and not at all in March.
    let autumn = [
        "2023-10-29T01:00:00+02:00",
        "2023-10-29T02:00:00+02:00",
        "2023-10-29T02:00:00+01:00",
        "2023-10-29T03:00:00+01:00",
    ];
    assert_eq!(next(&autumn), "2023-10-29T04:00:00+01:00 | 2023-10-29T05:00:00+01:00");
    let spring = ["2024-03-31T00:00:00+01:00", "2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"];
    assert_eq!(next(&spring), "2024-03-31T04:00:00+02:00 | 2024-03-31T05:00:00+02:00");
    // Days: midnight at the place, 25 hours apart once.
    let days = ["2023-10-28T00:00:00+02:00", "2023-10-29T00:00:00+02:00", "2023-10-30T00:00:00+01:00"];
    assert_eq!(said(&days), "daily");
    assert_eq!(next(&days), "2023-10-31T00:00:00+01:00 | 2023-11-01T00:00:00+01:00");
    let zone = |labels: &[&str]| summary(read_with(table(labels), ReadOptions::new().zone("Europe/Berlin")));
    // A zone knows what follows.
    let before = ["2024-03-30T23:00:00+01:00", "2024-03-31T00:00:00+01:00", "2024-03-31T01:00:00+01:00"];
    assert!(
        zone(&before).ends_with("-> 2024-03-31T03:00:00+02:00 | 2024-03-31T04:00:00+02:00"),
        "{}",
        zone(&before)
    );
    // A clock without offsets, in a zone.
    let clock = ["2023-10-29 01:00", "2023-10-29 02:00", "2023-10-29 02:00", "2023-10-29 03:00"];
    assert!(zone(&clock).ends_with("-> 2023-10-29 04:00 | 2023-10-29 05:00"), "{}", zone(&clock));
    // The newest row first, too; in no order, nobody knows which of the two is which.
    let turned = |labels: &[&str]| {
        let rows: String =
            labels.iter().enumerate().rev().map(|(at, label)| format!("{label},{at}.5\n")).collect();
        summary(read_with(format!("date,y\n{rows}"), ReadOptions::new().zone("Europe/Berlin")))
    };
    assert_eq!(
        turned(&clock),
        "2023-10-29 01:00 [0.5, 1.5, 2.5, 3.5] -> 2023-10-29 04:00 | 2023-10-29 05:00"
    );
    let mixed =
        ["2023-10-29 02:00", "2023-10-29 01:00", "2023-10-29 03:00", "2023-10-29 02:00", "2023-10-29 04:00"];
    assert_eq!(
        zone(&mixed),
        "refused, line 2, column date: '2023-10-29 02:00' comes twice when summer time ends, and the rows are not in order of time; sort them, or write offsets"
    );
    assert!(zone(&clock[..2]).ends_with("-> 2023-10-29 02:00 | 2023-10-29 03:00"), "{}", zone(&clock[..2]));
    let spring = ["2024-03-31 00:00", "2024-03-31 01:00", "2024-03-31 03:00"];
    assert!(zone(&spring).ends_with("-> 2024-03-31 04:00 | 2024-03-31 05:00"), "{}", zone(&spring));
    let left_out = ["2024-03-31 01:00", "2024-03-31 02:00", "2024-03-31 03:00"];
    assert_eq!(
        zone(&left_out),
        "refused, line 3, column date: '2024-03-31 02:00' is in the hour that summer time leaves out in Europe/Berlin; say another --zone"
    );
    let midnights = ["2023-10-28T22:00:00Z", "2023-10-29T23:00:00Z", "2023-10-30T23:00:00Z"];
    assert!(
        zone(&midnights).ends_with("-> 2023-10-31T23:00:00Z | 2023-11-01T23:00:00Z"),
        "{}",
        zone(&midnights)
    );
    let named = ["2023-10-29T01:00:00+02:00[Europe/Berlin]", "2023-10-29T02:00:00+02:00[Europe/Berlin]"];
    assert_eq!(
        next(&named),
        "2023-10-29T02:00:00+01:00[Europe/Berlin] | 2023-10-29T03:00:00+01:00[Europe/Berlin]"
    );
    // Without a zone, the doubled hour is refused, and the missing one is a gap.
    assert_eq!(
        summary(read(table(&clock))),
        "refused, line 4, column date: 2023-10-29 02:00 comes twice, first as '2023-10-29 02:00'; say --id if a column tells series apart, or --agg mean, sum, first or last; or --zone, for summer time"
    );
    let data = read(table(&autumn)).unwrap();
    assert_eq!(reported(&data, "warning").split(';').next().unwrap(), "offsets change");
}

#[test]
fn labels_continue_for_four_centuries() {
    // Against the arithmetic of the crate's own dates: every day from 1899 on, and every month end.
    let data = read(table(&["1899-12-30", "1899-12-31", "1900-01-01"])).unwrap();
    let labels = data.calendar().labels(0..146_097);
    let mut day = (1899, 12, 30);
    for label in labels {
        assert_eq!(label, format!("{:04}-{:02}-{:02}", day.0, day.1, day.2));
        let leap = day.0 % 4 == 0 && (day.0 % 100 != 0 || day.0 % 400 == 0);
        let last = match day.1 {
            2 => 28 + i32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day = if day.2 < last {
            (day.0, day.1, day.2 + 1)
        } else if day.1 < 12 {
            (day.0, day.1 + 1, 1)
        } else {
            (day.0 + 1, 1, 1)
        };
    }
    assert_eq!(data.calendar().label(-1), "1899-12-29");
}

#[test]
fn labels_continue_as_those_of_pandas() {
    let ranges = include_str!("../fixtures/pandas_ranges.txt");
    let mut failures = Vec::new();
    for line in ranges.lines().filter(|line| !line.starts_with('#')) {
        let (frequency, labels) = line.split_once('|').unwrap();
        let labels: Vec<&str> = labels.split('|').collect();
        let (known, later) = labels.split_at(12);
        let data = read(table(known)).unwrap();
        assert_eq!(data.series()[0].len(), 12, "{frequency}: rows were added");
        let found = data.calendar().labels(12..15);
        if found != later {
            failures.push(format!("{frequency}: found {found:?}, expected {later:?}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The features of the first moments of a table with these times.
fn features(times: &[&str], positions: i64) -> Vec<(&'static str, Vec<f64>)> {
    let rows: String = times.iter().enumerate().map(|(at, time)| format!("{time},{at}\n")).collect();
    let data = read(format!("time,y\n{rows}")).unwrap();
    data.calendar().features(0..positions).into_iter().map(|one| (one.name, one.values)).collect()
}

#[test]
fn the_calendar_says_which_day_it_is() {
    // 1 January 2024 was a Monday. February had 29 days, 21 of them from Monday to Friday.
    let days = features(&["2024-01-05", "2024-01-06", "2024-01-07"], 4);
    let day = |name| days.iter().find(|(found, _)| *found == name).map(|(_, values)| values.clone());
    assert_eq!(day("Friday"), Some(vec![1.0, 0.0, 0.0, 0.0]));
    assert_eq!(day("Monday"), Some(vec![0.0, 0.0, 0.0, 1.0]));
    assert_eq!(day("Sunday"), None);
    let business =
        ["04", "05", "08", "09", "10", "11", "12", "15", "16", "17"].map(|day| format!("2024-01-{day}"));
    let business = features(&business.each_ref().map(String::as_str), 4);
    assert_eq!(business.len(), 4);
    assert_eq!(business[3], ("Thursday", vec![1.0, 0.0, 0.0, 0.0]));
    for months in [["2024-01-01", "2024-02-01", "2024-03-01"], ["2024-01-31", "2024-02-29", "2024-03-31"]] {
        let months = features(&months, 4);
        assert_eq!(
            months,
            [("days", vec![31.0, 29.0, 31.0, 30.0]), ("working days", vec![23.0, 21.0, 21.0, 22.0])]
        );
    }
    let quarters = features(&["2023Q4", "2024Q1", "2024Q2"], 3);
    assert_eq!(quarters[0], ("days", vec![92.0, 91.0, 91.0]));
    let ends = features(&["2023-12-31", "2024-03-31", "2024-06-30"], 3);
    assert_eq!(ends, quarters);
    let hours = features(&["2024-01-01 06:00", "2024-01-01 12:00", "2024-01-01 18:00"], 4);
    let sine = &hours.iter().find(|(name, _)| *name == "hour, sine").unwrap().1;
    for (found, expected) in sine.iter().zip([1.0, 0.0, -1.0, 0.0]) {
        assert!((found - expected).abs() < 1e-12, "{sine:?}");
    }
    assert!(features(&["2023-01-02", "2023-01-09", "2023-01-16"], 3).is_empty(), "weeks are all alike");
    assert!(features(&["2021", "2022", "2023"], 3).is_empty());
}
