//! Parts of a time in columns of their own, beside a year or a date.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::ReadOptions;

/// A table of two columns of times and one of values, 0, 1, 2 and so on.
fn table(names: &str, outer: &[&str], inner: &[&str]) -> String {
    let times = outer.iter().flat_map(|a| inner.iter().map(move |b| format!("{a},{b}")));
    let rows: Vec<String> = times.enumerate().map(|(at, time)| format!("{time},{at}.5\n")).collect();
    format!("{names},value\n{}", rows.concat())
}

/// The label of the first sample, how many there are, and the two labels that follow.
fn span(content: &str, options: ReadOptions) -> String {
    match read_with(content, options) {
        Err(error) => summary(Err(error)),
        Ok(data) => {
            let (count, one) = (data.series().len(), &data.series()[0]);
            let end = one.start() + one.len() as i64;
            let labels = data.calendar().labels(end..end + 2).join(" | ");
            let first = data.calendar().label(one.start());
            assert_eq!(one.target(0)[..2], [0.5, 1.5], "in order of time");
            format!("{count} of {}: {first} -> {labels}, {}", one.len(), data.calendar().frequency())
        }
    }
}

#[test]
fn parts_of_a_year_are_joined() {
    let months: Vec<String> = (1..=12).map(|month| format!("M{month:02}")).collect();
    let months: Vec<&str> = months.iter().map(String::as_str).collect();
    let years = ["1980", "1981", "1982"];
    let cases = [
        ("Year,Period", months.as_slice(), "1 of 36: 1980-01 -> 1983-01 | 1983-02, monthly"),
        ("Year,Qtr", &["Q1", "Q2", "Q3", "Q4"], "1 of 12: 1980Q1 -> 1983Q1 | 1983Q2, quarterly"),
        (
            "Jahr,Quartal",
            &["1. Quartal", "2. Quartal", "3. Quartal", "4. Quartal"],
            "1 of 12: 1980Q1 -> 1983Q1 | 1983Q2, quarterly",
        ),
        ("Year,Half", &["H1", "H2"], "1 of 6: 1980-H1 -> 1983-H1 | 1983-H2, every 2 quarters"),
        ("year,half", &["1", "2"], "1 of 6: 1980-H1 -> 1983-H1 | 1983-H2, every 2 quarters"),
    ];
    for (names, parts, expected) in cases {
        assert_eq!(span(&table(names, &years, parts), ReadOptions::new()), expected, "{names}");
    }
    let days: Vec<String> = (1..=366).map(|day| day.to_string()).collect();
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    assert_eq!(
        span(&table("year,doy", &["1980"], &days), ReadOptions::new()),
        "1 of 366: 1980-001 -> 1981-001 | 1981-002, daily"
    );
    let weekdays: Vec<String> =
        (1..=52).flat_map(|week| (1..=7).map(move |day| format!("{week},{day}"))).collect();
    let weekdays: Vec<&str> = weekdays.iter().map(String::as_str).collect();
    assert_eq!(
        span(&table("year,week,weekday", &["2021", "2022"], &weekdays), ReadOptions::new()),
        "1 of 728: 2021-W01-1 -> 2023-W01-1 | 2023-W01-2, daily"
    );
    let named = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(' ').collect::<Vec<_>>();
    assert_eq!(
        span(&table("Year,Period", &years, &named), ReadOptions::new()),
        "1 of 36: 1980 Jan -> 1983 Jan | 1983 Feb, monthly"
    );
    let mut thirteen = months.clone();
    thirteen.push("M13");
    assert_eq!(
        span(&table("Year,Period", &years, &thirteen), ReadOptions::new()),
        "refused, line 14, column Period: 'M13' is the whole year beside its months; remove these lines"
    );
    // With a column that tells series apart.
    let both = "series,Year,Period,value\na,1980,M01,1\na,1980,M02,2\nb,1980,M01,5\nb,1980,M02,7\n";
    assert_eq!(
        summary(read(both)),
        "a: 1980-01 [1.0, 2.0] -> 1980-03 | 1980-04; b: 1980-01 [5.0, 7.0] -> 1980-03 | 1980-04"
    );
    // Quarters beside months say nothing more.
    let finest = "Year,Quarter,Month,y\n2020,1,2,1.5\n2020,1,3,2.5\n2020,2,4,3.5\n";
    assert_eq!(summary(read(finest)), "2020-02 [1.5, 2.5, 3.5] -> 2020-05 | 2020-06");
}

#[test]
fn parts_of_a_day_are_joined() {
    let days = ["2023-01-01", "2023-01-02", "2023-01-03"];
    let counted = |from: u32, to: u32| (from..=to).map(|number| number.to_string()).collect::<Vec<_>>();
    let written = |suffix: &str| (0..24).map(|hour| format!("{hour:02}{suffix}")).collect::<Vec<_>>();
    let halves = (0..48).map(|half| format!("{:02}{:02}", half / 2, half % 2 * 30)).collect::<Vec<_>>();
    let seconds = (0..48).map(|half| format!("{:02}{:02}15", half / 2, half % 2 * 30)).collect::<Vec<_>>();
    let hours = "1 of 72: 2023-01-01 00:00 -> 2023-01-04 00:00 | 2023-01-04 01:00, hourly";
    let half_hours = "1 of 144: 2023-01-01 00:00 -> 2023-01-04 00:00 | 2023-01-04 00:30, every 30 minutes";
    let cases = [
        ("date,hour", counted(0, 23), hours),
        (
            "date,HE",
            counted(1, 24),
            "1 of 72: 2023-01-01 01:00 -> 2023-01-04 01:00 | 2023-01-04 02:00, hourly",
        ),
        (
            "date,Hour_Ending",
            counted(1, 24),
            "1 of 72: 2023-01-01 01:00 -> 2023-01-04 01:00 | 2023-01-04 02:00, hourly",
        ),
        ("date,hour", written("h"), hours),
        ("date,time", halves, half_hours),
        ("settlement_date,settlement_period", counted(1, 48), half_hours),
        ("date,interval", (0..24).map(|hour| format!("{hour:02}:00-{:02}:00", hour + 1)).collect(), hours),
        (
            "date,mtu",
            counted(1, 96),
            "1 of 288: 2023-01-01 00:00 -> 2023-01-04 00:00 | 2023-01-04 00:15, every 15 minutes",
        ),
        (
            "<DATE>,<TIME>",
            seconds,
            "1 of 144: 2023-01-01 00:00:15 -> 2023-01-04 00:00:15 | 2023-01-04 00:30:15, every 30 minutes",
        ),
    ];
    for (names, parts, expected) in cases {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        assert_eq!(span(&table(names, &days, &parts), ReadOptions::new()), expected, "{names}");
    }
    let quarters = (0..24).flat_map(|hour| (1..=4).map(move |quarter| format!("{hour},{quarter}")));
    let quarters: Vec<String> = quarters.collect();
    let quarters: Vec<&str> = quarters.iter().map(String::as_str).collect();
    assert_eq!(
        span(&table("date,hour,quarter", &days, &quarters), ReadOptions::new()),
        "1 of 288: 2023-01-01 00:00 -> 2023-01-04 00:00 | 2023-01-04 00:15, every 15 minutes"
    );
    // A compact date is a number, and its time another.
    let compact = "<DATE>,<TIME>,<VOL>\n20230102,000000,1\n20230102,000500,2\n20230102,001000,4\n";
    assert_eq!(summary(read(compact)), "20230102 00:00 [1.0, 2.0, 4.0] -> 20230102 00:15 | 20230102 00:20");
}

#[test]
fn a_column_that_may_be_a_part_or_an_id_is_asked_about() {
    let seasons = table("Year,Season", &["1980", "1981", "1982"], &["winter", "spring", "summer", "autumn"]);
    assert_eq!(
        span(&seasons, ReadOptions::new()),
        "refused, line 2, column Season: winter to autumn come within each Year: parts of the time, or series? Say --time \
         Year,Season or --id Season"
    );
    assert_eq!(
        span(&seasons, ReadOptions::new().time(["Year", "Season"])),
        "1 of 12: 1980Q1 -> 1983Q1 | 1983Q2, quarterly"
    );
    let days = ["2023-01-01", "2023-01-02", "2023-01-03"];
    let halves = table("date,session", &days, &["AM", "PM"]);
    let asked = "refused, line 2, column session: AM to PM come within each date";
    assert!(span(&halves, ReadOptions::new()).starts_with(asked));
    assert_eq!(
        span(&halves, ReadOptions::new().time(["date", "session"])),
        "1 of 6: 2023-01-01 00:00 -> 2023-01-04 00:00 | 2023-01-04 12:00, every 12 hours"
    );
    let shifts = table("date,shift", &days, &["A", "B"]);
    assert!(
        span(&shifts, ReadOptions::new())
            .starts_with("refused, line 2, column shift: A to B come within each date")
    );
    assert_eq!(
        span(&shifts, ReadOptions::new().time(["date", "shift"])),
        "1 of 6: 2023-01-01 00:00 -> 2023-01-04 00:00 | 2023-01-04 12:00, every 12 hours"
    );
    let terms = table("Year,Term", &["1990", "1991", "1992"], &["1", "2", "3"]);
    assert!(
        span(&terms, ReadOptions::new())
            .starts_with("refused, line 2, column Term: 1 to 3 come within each Year")
    );
    assert_eq!(
        span(&terms, ReadOptions::new().time(["Year", "Term"])),
        "1 of 9: 1990-01 -> 1993-01 | 1993-05, every 4 months"
    );
    let both = "date,shop,session,y\n2023-01-01,n,AM,1\n2023-01-01,n,PM,2\n2023-01-01,s,AM,3\n2023-01-01,s,PM,4\n\
                2023-01-02,n,AM,1\n2023-01-02,n,PM,2\n2023-01-02,s,AM,3\n2023-01-02,s,PM,4\n";
    let asked = "refused, line 2, column session: AM to PM come within each date";
    assert!(summary(read(both)).starts_with(asked), "{}", summary(read(both)));
    let numbered = table("date,k", &days, &["1", "2", "3", "4"]);
    let asked = "refused, line 2, column k: 1 to 4 come within each date";
    assert!(span(&numbered, ReadOptions::new()).starts_with(asked));
    assert_eq!(read_with(&numbered, ReadOptions::new().ids(["k"])).unwrap().series().len(), 4);
    // A name, or text that is no part of a time, says that it is an id.
    for names in ["date,store", "date,shop_id", "date,store_nbr"] {
        let data = read(table(names, &days, &["1", "2", "3"])).unwrap();
        assert_eq!(data.series().len(), 3, "{names}");
    }
    let data = read(table("date,where", &days, &["north", "south"])).unwrap();
    assert_eq!(reported(&data, "series"), "2, told apart by where (found)");
}

#[test]
fn series_without_dates_are_told_apart_or_asked_about() {
    check(&[
        (
            "blocks, by a name",
            "branch,y\na,1\na,2\nb,5\nb,7\n",
            "a: 1 [1.0, 2.0] -> 3 | 4; b: 1 [5.0, 7.0] -> 3 | 4",
        ),
        (
            "blocks",
            "what,y\na,1\na,2\nb,5\nb,7\n",
            "refused, line 2, column what: what may tell several series apart; say --id what, or --time none if all rows are one series",
        ),
        (
            "cycles",
            "what,y\na,1\nb,2\nc,3\na,5\nb,7\nc,9\n",
            "refused, line 2, column what: what may tell several series apart; say --id what, or --time none if all rows are one series",
        ),
        (
            "numbers, by a name, in turn",
            "sensor,y\n1,1\n2,2\n1,5\n2,7\n",
            "refused, line 2, column sensor: sensor may tell several series apart; say --id sensor, or --time none if all rows are one series",
        ),
        ("numbers in turn", "level,y\n1,1\n2,2\n1,5\n2,7\n", "1 [1.0, 2.0, 5.0, 7.0] -> 5 | 6"),
        (
            "numbers in blocks, by a name",
            "store,y\n1,1\n1,2\n2,5\n2,7\n",
            "1: 1 [1.0, 2.0] -> 3 | 4; 2: 1 [5.0, 7.0] -> 3 | 4",
        ),
        ("weather", "sky,y\nsun,1\nrain,2\nrain,3\nsun,5\n", "1 [1.0, 2.0, 3.0, 5.0] -> 5 | 6"),
    ]);
    check_with(
        &[("one series", "what,y\na,1\na,2\nb,5\nb,7\n", "1 [1.0, 2.0, 5.0, 7.0] -> 5 | 6")],
        ReadOptions::new().no_time(),
    );
    let phases = "date,phase,y\n2024-01-01,a,1\n2024-01-02,a,2\n2024-01-03,b,4\n2024-01-04,b,5\n";
    let data = read(phases).unwrap();
    assert!(
        reported(&data, "warning")
            .contains("phase changes in blocks: say --id phase if it tells series apart")
    );
}

/// Sixty days of numbered hours or shorter periods around the end of summer time in 2023; `last` says how many a day has.
fn numbered_days(names: &str, last: &dyn Fn(&str) -> usize, write: &dyn Fn(usize) -> String) -> String {
    let days = (20..=30).map(|day| format!("2023-09-{day}"));
    let days = days.chain((1..=31).map(|day| format!("2023-10-{day:02}")));
    let days = days.chain((1..=18).map(|day| format!("2023-11-{day:02}")));
    let rows: Vec<String> = days
        .flat_map(|day| (1..=last(&day)).map(move |number| (day.clone(), number)))
        .enumerate()
        .map(|(at, (day, number))| format!("{day},{},{at}.5\n", write(number)))
        .collect();
    format!("{names},y\n{}", rows.concat())
}

#[test]
fn a_day_of_25_hours_is_one_series_with_a_zone() {
    let long = |usual: usize| move |day: &str| if day == "2023-10-29" { usual / 24 * 25 } else { usual };
    let plain = |number: usize| number.to_string();
    let ending = |number: usize| format!("HE{number:02}");
    let berlin = || ReadOptions::new().zone("Europe/Berlin");
    let cases = [
        (
            "settlement_date,settlement_period",
            48,
            &plain as &dyn Fn(usize) -> String,
            "1 of 2882: 2023-09-20 00:00 -> 2023-11-19 00:00 | 2023-11-19 00:30, every 30 minutes",
        ),
        (
            "date,hour",
            24,
            &plain,
            "1 of 1441: 2023-09-20 01:00 -> 2023-11-19 01:00 | 2023-11-19 02:00, hourly",
        ),
        (
            "date,he",
            24,
            &ending,
            "1 of 1441: 2023-09-20 01:00 -> 2023-11-19 01:00 | 2023-11-19 02:00, hourly",
        ),
        (
            "date,mtu",
            96,
            &plain,
            "1 of 5764: 2023-09-20 00:00 -> 2023-11-19 00:00 | 2023-11-19 00:15, every 15 minutes",
        ),
    ];
    for (names, usual, write, expected) in cases {
        let content = numbered_days(names, &long(usual), write);
        assert_eq!(span(&content, berlin()), expected);
        let refused = span(&content, ReadOptions::new());
        assert!(
            refused.contains(", of a day of 25 hours, as where summer time ends; say --zone"),
            "{refused}"
        );
        let other = span(&content, ReadOptions::new().zone("America/New_York"));
        assert!(
            other.ends_with("in America/New_York, the days have other numbers of hours; say another --zone"),
            "{other}"
        );
    }
    // Columns that do not say that they are hours are asked about, in spite of the longer day.
    let unnamed = span(&numbered_days("date,k", &long(24), &plain), ReadOptions::new());
    assert!(unnamed.starts_with("refused, line 2, column k: 1 to 24 come within each date"), "{unnamed}");
    // A day of 23 hours, too, counts those that passed.
    let spring = |day: &str| if day == "2023-10-01" { 46 } else { 48 };
    let content = numbered_days("date,settlement_period", &spring, &plain);
    assert_eq!(
        span(&content, ReadOptions::new().zone("Australia/Sydney")),
        "1 of 2878: 2023-09-20 00:00 -> 2023-11-19 00:00 | 2023-11-19 00:30, every 30 minutes"
    );
}

#[test]
fn parts_beside_a_year_are_joined_in_any_order_of_rows() {
    let months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(' ').collect::<Vec<_>>();
    let rows = |count: usize, year_first: bool, part: &dyn Fn(usize) -> String| {
        let times = (0..count).flat_map(|place| (2015..2021).map(move |year: usize| (year, place)));
        let row = |(year, place): (usize, usize)| {
            let value = (year - 2015) * count + place;
            if year_first {
                format!("{year},{},{value}.5\n", part(place))
            } else {
                format!("{},{year},{value}.5\n", part(place))
            }
        };
        times.map(row).collect::<Vec<_>>()
    };
    let number = |place: usize| (place + 1).to_string();
    let named = |place: usize| months[place].to_owned();
    let quarter = |place: usize| format!("Q{}", place + 1);
    let shuffled = |mut rows: Vec<String>| {
        rows.sort_by_key(|row| {
            row.bytes()
                .fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()).rotate_left(9))
        });
        rows
    };
    let monthly = "1 of 72: 2015-01 -> 2021-01 | 2021-02, monthly";
    let quarterly = "1 of 24: 2015Q1 -> 2021Q1 | 2021Q2, quarterly";
    let cases = [
        ("year,month", rows(12, true, &number), monthly),
        ("month,year", rows(12, false, &number), monthly),
        ("year,month", shuffled(rows(12, true, &number)), monthly),
        ("month,year", rows(12, false, &named), "1 of 72: 2015 Jan -> 2021 Jan | 2021 Feb, monthly"),
        ("year,month_no", rows(12, true, &number), monthly),
        ("year,period", rows(12, true, &named), "1 of 72: 2015 Jan -> 2021 Jan | 2021 Feb, monthly"),
        ("quarter,year", rows(4, false, &number), quarterly),
        ("year,q", rows(4, true, &quarter), quarterly),
        (
            "year,half",
            shuffled(rows(2, true, &number)),
            "1 of 12: 2015-H1 -> 2021-H1 | 2021-H2, every 2 quarters",
        ),
    ];
    for (names, rows, expected) in cases {
        assert_eq!(
            span(&format!("{names},value\n{}", rows.concat()), ReadOptions::new()),
            expected,
            "{names}"
        );
    }
    // Fiscal years may begin in any month.
    let season = |row: &str| {
        let next = row[2..4].parse::<usize>().unwrap() + 1;
        format!("{}/{next}{}", &row[..4], &row[4..])
    };
    let fiscal = [
        (
            "FY,month",
            rows(12, true, &number),
            "month may be parts of each FY, which may begin in any month; say --time FY,month",
        ),
        (
            "quarter,fiscal_year",
            rows(4, false, &number),
            "quarter may be parts of each fiscal_year, which may begin in any month",
        ),
        (
            "FY,Quarter",
            rows(4, true, &quarter).iter().map(|row| format!("FY{row}")).collect(),
            "Q1 to Q4 come within each FY: parts of the time, or series?",
        ),
        (
            "season,month",
            rows(12, true, &number).iter().map(|row| season(row)).collect(),
            "1 to 12 come within each season: parts of the time, or series?",
        ),
    ];
    for (names, rows, problem) in fiscal {
        let found = span(&format!("{names},value\n{}", rows.concat()), ReadOptions::new());
        assert!(found.starts_with("refused, line 2, column ") && found.contains(problem), "{names}: {found}");
    }
    assert_eq!(
        span(
            &format!("FY,month,value\n{}", rows(12, true, &number).concat()),
            ReadOptions::new().time(["FY", "month"])
        ),
        monthly
    );
    // Years that repeat because several series have them.
    let panel: String =
        "ab".chars().flat_map(|id| (2000..2010).map(move |year| format!("{id},{year},3,{year}\n"))).collect();
    let data = read(format!("country,year,month,y\n{panel}")).unwrap();
    assert_eq!(reported(&data, "series"), "2, told apart by country (found)");
}
