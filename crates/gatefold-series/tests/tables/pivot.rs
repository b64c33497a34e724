//! Tables whose columns are parts of a time, and those in which a row is a series and something in it is odd.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::{Layout, ReadOptions};

/// A table with a row for each label and 0, 1, 2 and so on in its cells, row after row.
fn table(base: &str, names: &[String], labels: &[&str]) -> String {
    let mut out = format!("{base},{}\n", names.join(","));
    for (row, label) in labels.iter().enumerate() {
        let cells = (0..names.len()).map(|column| format!("{}.5", row * names.len() + column));
        out.push_str(&format!("{label},{}\n", cells.collect::<Vec<_>>().join(",")));
    }
    out
}

fn numbered(before: &str, from: usize, to: usize) -> Vec<String> {
    (from..=to).map(|number| format!("{before}{number}")).collect()
}

#[test]
fn parts_as_columns_are_one_series() {
    let words = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let years = ["1980", "1981"];
    let days = ["2023-01-01", "2023-01-02"];
    let months = words("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec");
    let german = words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember");
    let cases = [
        ("Year", months.clone(), years, "1980-01 -> 1982-01 | 1982-02"),
        ("Jahr", german, years, "1980-01 -> 1982-01 | 1982-02"),
        (
            "Jahr",
            words("Jän Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez"),
            years,
            "1980-01 -> 1982-01 | 1982-02",
        ),
        ("Year", numbered("M", 1, 12), years, "1980-01 -> 1982-01 | 1982-02"),
        ("Year", numbered("Q", 1, 4), years, "1980Q1 -> 1982Q1 | 1982Q2"),
        ("date", numbered("H", 0, 23), days, "2023-01-01 00:00 -> 2023-01-03 00:00 | 2023-01-03 01:00"),
        ("date", numbered("HE", 1, 24), days, "2023-01-01 01:00 -> 2023-01-03 01:00 | 2023-01-03 02:00"),
        ("Year", numbered("", 1, 12), years, "1980-01 -> 1982-01 | 1982-02"),
        ("date", numbered("P", 1, 48), days, "2023-01-01 00:00 -> 2023-01-03 00:00 | 2023-01-03 00:30"),
        (
            "date",
            (0..24).map(|hour| format!("{hour:02}:00")).collect(),
            days,
            "2023-01-01 00:00 -> 2023-01-03 00:00 | 2023-01-03 01:00",
        ),
    ];
    for (base, names, labels, expected) in cases {
        let data = read(table(base, &names, &labels)).unwrap();
        let one = &data.series()[0];
        let rising: Vec<f64> = (0..2 * names.len()).map(|at| at as f64 + 0.5).collect();
        assert_eq!(one.target(0), rising, "{base} {}", names[0]);
        let next = data.calendar().labels(one.len() as i64..one.len() as i64 + 2).join(" | ");
        assert_eq!(format!("{} -> {next}", data.calendar().label(0)), expected);
    }
    // The newest year first, the last months of it not known yet, and a mean that is left out.
    let mut names = months.clone();
    names.push("Annual".into());
    let values =
        |from: f64| (0..12).map(|at| (from + f64::from(at)).to_string()).collect::<Vec<_>>().join(",");
    let last = "2,1,2,3,,,,,,,,";
    let content =
        format!("Year,{}\n1982,{last},9\n1981,{},9\n1980,{},9\n", names.join(","), values(12.5), values(0.5));
    let data = read(&content).unwrap();
    assert_eq!((data.series()[0].len(), data.series()[0].future_len()), (28, 8));
    assert_eq!(data.series()[0].target(0)[23..], [23.5, 2.0, 1.0, 2.0, 3.0]);
    assert_eq!(reported(&data, "left out"), "Annual: no such part");
    let gap = content.replace("1981,12.5,13.5", "1981,12.5,");
    assert_eq!(
        summary(read(gap)),
        "refused, line 3, column Feb: the cell is missing (9 in all); fill in a number, or ask for a fill: --fill previous, linear or zero"
    );
    let several = "Year,City,Q1,Q2,Q3,Q4\n1980,a,1,2,3,4\n1980,b,5,6,7,8\n";
    assert_eq!(
        summary(read(several)),
        "refused, line 3, column Year: 1980 comes twice, for several City, and Q1 to Q4 are parts of it; write one row for each part, or say --layout long"
    );
    let long = read_with(table("Year", &months, &years), ReadOptions::new().layout(Layout::Long)).unwrap();
    assert_eq!(long.targets(), ["Dec"]);
    assert_eq!(
        summary(read(table("date", &numbered("", 1, 24), &days))),
        "refused, line 1: the names 1 to 24 may be parts of each date, or series; name the parts H1 and so on, or say --layout wide"
    );
    let seasons = table("YR", &words("DJF JFM FMA MAM AMJ MJJ JJA JAS ASO SON OND NDJ"), &years);
    assert_eq!(
        summary(read(seasons)),
        "refused, line 1: the names DJF to NDJ are parts of a year; write one row for each, or say --target for a yearly series"
    );
}

#[test]
fn years_as_names_are_found_whatever_is_around_them() {
    check(&[
        (
            "the World Bank's brackets",
            "Country,Code,1960 [YR1960],1961 [YR1961],1962 [YR1962]\nA,a,1,2,3\nB,b,4,5,6.5\n",
            "A: 1960 [YR1960] [1.0, 2.0, 3.0] -> 1963 [YR1963] | 1964 [YR1964]; B: 1960 [YR1960] [4.0, 5.0, 6.5] -> 1963 [YR1963] | 1964 [YR1964]",
        ),
        ("R's X", "Country,X1960,X1961,X1962\nA,1,2,3\n", "A: X1960 [1.0, 2.0, 3.0] -> X1963 | X1964"),
        (
            "a flag",
            "geo,2010-01,2010-02,2010-03\nA,1,2,3 p\nB,4,5,6 p\n",
            "refused, line 2, column 2010-03: '3 p' is not a number; correct the cell, or leave it empty if the value is missing",
        ),
        ("decades", "country,2000,1990,1980\nA,3,2,1\n", "A: 1980 [1.0, 2.0, 3.0] -> 2010 | 2020"),
        (
            "years of two digits",
            "region,Jan-10,Feb-10,Mar-10\nA,1,2,3\n",
            "refused, line 1: the year in the name 'Mar-10' has two digits; say --time-format, such as %b-%y",
        ),
        (
            "months of no year",
            "city,Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec\nA,1,2,3,4,5,6,7,8,9,10,11,12\n",
            "refused, line 1: the names Jan to Dec are parts of a year or day; say --layout rows if each row is a series, or --layout long",
        ),
        (
            "colons for no value",
            "geo\t2010-01\t2010-02\t2010-03\nA\t:\t2\t3\nB\t:\t5\t6\n",
            "A: 2010-02 [2.0, 3.0] -> 2010-04 | 2010-05; B: 2010-02 [5.0, 6.0] -> 2010-04 | 2010-05",
        ),
        (
            "fiscal years",
            "firm,2000-01,2001-02,2002-03\nA,1,2,3\n",
            "A: 2000-01 [1.0, 2.0, 3.0] -> 2003-04 | 2004-05",
        ),
        (
            "trailing delimiters below lines of text",
            "Source,Indicators,\n\nName,Code,2020,2021,2022,\nA,a,1,2,3,\nB,b,4,5,6.5,\n",
            "A: 2020 [1.0, 2.0, 3.0] -> 2023 | 2024; B: 2020 [4.0, 5.0, 6.5] -> 2023 | 2024",
        ),
    ]);
    check_with(
        &[(
            "years of two digits, stated",
            "region,Jan-10,Feb-10,Mar-10\nA,1,2,3\n",
            "A: Jan-10 [1.0, 2.0, 3.0] -> Apr-10 | May-10",
        )],
        ReadOptions::new().time_format("%b-%y"),
    );
}

/// A table of months, quarters or hours downwards under the years or days that they are parts of.
fn turned(name: &str, parts: &[String], times: &str) -> String {
    let rows: Vec<String> = parts.iter().map(|part| format!("{part},1,2,3")).collect();
    format!("{name},{times}\n{}\n", rows.join("\n"))
}

#[test]
fn parts_of_times_that_go_down_under_them_are_no_series() {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let months: Vec<String> = months.map(str::to_owned).to_vec();
    let with_sum = [months.clone(), vec!["Total".to_owned()]].concat();
    let hours: Vec<String> = (0..24).map(|hour| format!("{hour:02}:00")).collect();
    let years = "2019,2020,2021";
    for (name, parts, times) in [
        ("month", &months, years),
        ("", &with_sum, years),
        ("Month", &numbered("", 1, 12), years),
        ("x", &numbered("Q", 1, 4), years),
        ("hour", &hours, "2024-01-01,2024-01-02,2024-01-03"),
        ("hour", &numbered("", 0, 23), "2024-01-01,2024-01-02,2024-01-03"),
    ] {
        let content = turned(name, parts, times);
        let found = summary(read(&content));
        assert!(
            found.starts_with("refused, line 2, column ") && found.contains("may hold parts of 20"),
            "{found}"
        );
        let rows = read_with(&content, ReadOptions::new().layout(Layout::Rows)).unwrap();
        assert_eq!(rows.series().len(), parts.len());
    }
    for (name, parts) in
        [("shop", numbered("", 1, 12)), ("shop", numbered("S", 1, 12)), ("month", vec!["May".into()])]
    {
        assert_eq!(read(turned(name, &parts, years)).unwrap().series().len(), parts.len());
    }
}

#[test]
fn parts_in_other_orders_and_units_are_joined_or_refused() {
    let words = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let fiscal = words("Apr May Jun Jul Aug Sep Oct Nov Dec Jan Feb Mar");
    let week = words("Mon Tue Wed Thu Fri Sat Sun");
    let joined = [
        (
            "Fiscal Year",
            fiscal.clone(),
            &["2000/01", "2001/02", "2002/03"][..],
            "2000-04 -> 2003-04 | 2003-05",
        ),
        (
            "Week commencing",
            week.clone(),
            &["2023-01-02", "2023-01-09"],
            "2023-01-02 -> 2023-01-16 | 2023-01-17",
        ),
        (
            "Woche",
            words("Mo Di Mi Do Fr Sa So"),
            &["16.01.2023", "23.01.2023"],
            "16.01.2023 -> 30.01.2023 | 31.01.2023",
        ),
        (
            "week",
            words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
            &["2023-W01", "2023-W02"],
            "2023-01-02 -> 2023-01-16 | 2023-01-17",
        ),
        (
            "week",
            words("Sun Mon Tue Wed Thu Fri Sat"),
            &["2023-01-01", "2023-01-08"],
            "2023-01-01 -> 2023-01-15 | 2023-01-16",
        ),
    ];
    for (base, names, labels, expected) in joined {
        let data = read(table(base, &names, labels)).unwrap();
        let one = &data.series()[0];
        let rising: Vec<f64> = (0..labels.len() * names.len()).map(|at| at as f64 + 0.5).collect();
        assert_eq!(one.target(0), rising, "{base} {}", names[0]);
        let next = data.calendar().labels(one.len() as i64..one.len() as i64 + 2).join(" | ");
        assert_eq!(format!("{} -> {next}", data.calendar().label(0)), expected);
    }
    // The days of a month that it does not have are empty.
    let days = numbered("D", 1, 31);
    let month = |name: &str, count: usize| {
        let cells = (1..=31).map(|day| if day <= count { format!("{day}.5") } else { String::new() });
        format!("{name},{}\n", cells.collect::<Vec<_>>().join(","))
    };
    let head = format!("month,{}\n", days.join(","));
    let data = read(format!("{head}{}{}", month("2023-01", 31), month("2023-02", 28))).unwrap();
    assert_eq!((data.series()[0].len(), data.calendar().label(58)), (59, "2023-02-28".into()));
    assert_eq!(
        summary(read(format!("{head}{}{}", month("2023-01", 31), month("2023-02", 29)))),
        "refused, line 3, column D29: the month has no such day; leave the cell empty"
    );
    let reversed: Vec<String> = fiscal.iter().rev().cloned().collect();
    let hours: Vec<String> = (6..30).map(|hour| format!("{:02}:00", hour % 24)).collect();
    let months = words("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec");
    let from_april: Vec<String> = (0..12).map(|at| format!("M{}", (at + 3) % 12 + 1)).collect();
    let refused = [
        ("Year", fiscal.clone(), ["2000", "2001"], "Apr to Mar are parts of a year"),
        ("FY", fiscal.clone(), ["2000", "2001"], "Apr to Mar are parts of a year"),
        ("FY", fiscal, ["FY2000", "FY2001"], "Apr to Mar are parts of a year"),
        ("Year", reversed, ["2000", "2001"], "Mar to Apr are parts of a year"),
        ("Year", months[..6].to_vec(), ["2000", "2001"], "Jan to Jun are parts of a year"),
        ("Year", from_april, ["2000", "2001"], "M4 to M3 are parts of a year"),
        ("week", week.clone(), ["1", "2"], "Mon to Sun are parts of a week"),
        ("week ending", week.clone(), ["2023-01-08", "2023-01-15"], "Mon to Sun are parts of a week"),
        ("date", week, ["2023-01-02", "2023-01-03"], "Mon to Sun are parts of a week"),
        ("month", days, ["1", "2"], "D1 to D31 are parts of a month"),
        ("date", hours, ["2023-01-01", "2023-01-02"], "06:00 to 05:00 are parts of a day"),
    ];
    let seasons = summary(read(table("Season", &months, &["2000/01", "2001/02", "2002/03"])));
    assert!(seasons.starts_with("refused, line 1: the names Jan to Dec are parts of a year"), "{seasons}");
    for (base, names, labels, expected) in refused {
        let found = summary(read(table(base, &names, &labels)));
        assert!(found.starts_with(&format!("refused, line 1: the names {expected}")), "{base}: {found}");
    }
}

#[test]
fn a_column_for_the_hour_that_comes_twice_is_refused() {
    let names = numbered("H", 1, 25);
    let rows: String = (20..=31)
        .map(|day| {
            let last = if day == 29 { "7" } else { "" };
            format!("2023-10-{day},{}{last}\n", "5,".repeat(24))
        })
        .collect();
    assert_eq!(
        summary(read(format!("date,{}\n{rows}", names.join(",")))),
        "refused, line 11, column H25: a value of a day of 25 hours, as where summer time ends; write one row for each H1, with offsets"
    );
}
