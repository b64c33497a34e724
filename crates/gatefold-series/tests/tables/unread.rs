//! Times that are easily mistaken or overlooked: without them, nobody knows the order of the rows.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::{Aggregate, Encoding, Frequency, ReadOptions, Unit};

/// Six rows of a time and 0.5, 1.5 and so on, newest first.
fn newest_first(name: &str, labels: [&str; 6]) -> String {
    let rows = labels.iter().rev().zip((0..6).rev()).map(|(label, at)| format!("{label};{at}.5\n"));
    format!("{name};y\n{}", rows.collect::<String>())
}

#[test]
fn newest_first_is_sorted_in_every_format() {
    let cases = [
        ("Saison", ["2017/18", "2018/19", "2019/20", "2020/21", "2021/22", "2022/23"], "2023/24 | 2024/25"),
        ("season", ["1998-99", "1999-00", "2000-01", "2001-02", "2002-03", "2003-04"], "2004-05 | 2005-06"),
        (
            "season",
            ["2000/2001", "2001/2002", "2002/2003", "2003/2004", "2004/2005", "2005/2006"],
            "2006/2007 | 2007/2008",
        ),
        ("fiscal period", ["FY2018", "FY2019", "FY2020", "FY2021", "FY2022", "FY2023"], "FY2024 | FY2025"),
        (
            "x",
            ["FY2020 Q1", "FY2020 Q2", "FY2020 Q3", "FY2020 Q4", "FY2021 Q1", "FY2021 Q2"],
            "FY2021 Q3 | FY2021 Q4",
        ),
        ("Label", ["2018-H1", "2018-H2", "2019-H1", "2019-H2", "2020-H1", "2020-H2"], "2021-H1 | 2021-H2"),
        ("x", ["H1 2018", "H2 2018", "H1 2019", "H2 2019", "H1 2020", "H2 2020"], "H1 2021 | H2 2021"),
        ("x", ["1990S1", "1990S2", "1991S1", "1991S2", "1992S1", "1992S2"], "1993S1 | 1993S2"),
        (
            "Halbjahr",
            ["1. HJ 2018", "2. HJ 2018", "1. HJ 2019", "2. HJ 2019", "1. HJ 2020", "2. HJ 2020"],
            "1. HJ 2021 | 2. HJ 2021",
        ),
        (
            "Quartal",
            [
                "1. Quartal 2019",
                "2. Quartal 2019",
                "3. Quartal 2019",
                "4. Quartal 2019",
                "1. Quartal 2020",
                "2. Quartal 2020",
            ],
            "3. Quartal 2020 | 4. Quartal 2020",
        ),
        ("x", ["T1 2019", "T2 2019", "T3 2019", "T4 2019", "T1 2020", "T2 2020"], "T3 2020 | T4 2020"),
        ("x", ["1Q2019", "2Q2019", "3Q2019", "4Q2019", "1Q2020", "2Q2020"], "3Q2020 | 4Q2020"),
        (
            "KW",
            ["KW 50/2021", "KW 51/2021", "KW 52/2021", "KW 01/2022", "KW 02/2022", "KW 03/2022"],
            "KW 04/2022 | KW 05/2022",
        ),
        ("x", ["2010:10", "2010:11", "2010:12", "2011:01", "2011:02", "2011:03"], "2011:04 | 2011:05"),
        ("x", ["2010:3", "2010:4", "2011:1", "2011:2", "2011:3", "2011:4"], "2012:1 | 2012:2"),
        ("date", ["2010.10", "2010.11", "2010.12", "2011.01", "2011.02", "2011.03"], "2011.04 | 2011.05"),
        (
            "x",
            ["30DEC2022", "31DEC2022", "01JAN2023", "02JAN2023", "03JAN2023", "04JAN2023"],
            "05JAN2023 | 06JAN2023",
        ),
        (
            "x",
            [
                "Sun 2023-01-01",
                "Mon 2023-01-02",
                "Tue 2023-01-03",
                "Wed 2023-01-04",
                "Thu 2023-01-05",
                "Fri 2023-01-06",
            ],
            "Sat 2023-01-07 | Sun 2023-01-08",
        ),
        (
            "x",
            [
                "2023-10-29 00:00 CEST",
                "2023-10-29 01:00 CEST",
                "2023-10-29 02:00 CEST",
                "2023-10-29 02:00 CET",
                "2023-10-29 03:00 CET",
                "2023-10-29 04:00 CET",
            ],
            "2023-10-29 05:00 CET | 2023-10-29 06:00 CET",
        ),
        ("week", ["2022-50", "2022-51", "2022-52", "2023-01", "2023-02", "2023-03"], "2023-04 | 2023-05"),
        ("week", ["202301", "202302", "202303", "202304", "202305", "202306"], "202307 | 202308"),
        ("yearweek", ["202250", "202251", "202252", "202301", "202302", "202303"], "202304 | 202305"),
        (
            "ts",
            [
                "1672531200000000000",
                "1672534800000000000",
                "1672538400000000000",
                "1672542000000000000",
                "1672545600000000000",
                "1672549200000000000",
            ],
            "1672552800000000000 | 1672556400000000000",
        ),
        (
            "time",
            [
                "1.6725312E+09",
                "1.6725348E+09",
                "1.6725384E+09",
                "1.672542E+09",
                "1.6725456E+09",
                "1.6725492E+09",
            ],
            "1672552800 | 1672556400",
        ),
        ("Date", ["44927", "44928", "44929", "44930", "44931", "44932"], "44933 | 44934"),
        ("Date", ["40179", "40210", "40238", "40269", "40299", "40330"], "40360 | 40391"),
        (
            "Date",
            [
                "44927.0",
                "44927.0416666667",
                "44927.0833333333",
                "44927.125",
                "44927.1666666667",
                "44927.2083333333",
            ],
            "44927.25 | 44927.2916666667",
        ),
        ("datenum", ["738887", "738888", "738889", "738890", "738891", "738892"], "738893 | 738894"),
        ("Time", ["2000.00", "2000.25", "2000.50", "2000.75", "2001.00", "2001.25"], "2001.50 | 2001.75"),
        (
            "decimal date",
            ["2010.7083", "2010.7917", "2010.8750", "2010.9583", "2011.0417", "2011.1250"],
            "2011.2083 | 2011.2917",
        ),
        (
            "year",
            ["2010.583", "2010.667", "2010.750", "2010.833", "2010.917", "2011.000"],
            "2011.083 | 2011.167",
        ),
        (
            "JD",
            ["2459945.5", "2459946.5", "2459947.5", "2459948.5", "2459949.5", "2459950.5"],
            "2459951.5 | 2459952.5",
        ),
    ];
    let mut failures = Vec::new();
    for (name, labels, next) in cases {
        let found = match read(newest_first(name, labels)) {
            Err(error) => error.to_string(),
            Ok(data) => {
                let one = &data.series()[0];
                format!("{:?} -> {}", one.target(0), data.calendar().labels(6..8).join(" | "))
            }
        };
        let expected = format!("[0.5, 1.5, 2.5, 3.5, 4.5, 5.5] -> {next}");
        if found != expected {
            failures.push(format!("{name} {}:\n  found    {found}\n  expected {expected}", labels[0]));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn days_that_a_program_counts_have_a_calendar() {
    let rows: String =
        (44928..44998).filter(|day| day % 7 > 1).map(|day| format!("{day},{day}.5\n")).collect();
    let data = read(format!("Date,Close\n{rows}")).unwrap();
    assert_eq!(data.calendar().frequency(), Frequency::new(1, Unit::BusinessDay));
    assert!(reported(&data, "time").contains("days as Excel counts them"));
    // Without a name that says so, a count stays a count.
    let rows: String = (0..10).map(|at| format!("{},{}\n", 44927 + 7 * at, 100 + at)).collect();
    let data = read(format!("d,y\n{rows}")).unwrap();
    assert_eq!(data.targets(), ["y"]);
    assert_eq!(reported(&data, "time"), "d, numbers in steps of 7");
}

#[test]
fn a_time_that_is_not_understood_is_refused() {
    let counted = |name: &str, cells: &dyn Fn(usize) -> String| {
        let rows: String = (0..12).map(|at| format!("{},{}.5\n", cells(at), at * at)).collect();
        format!("{name},y\n{rows}")
    };
    let asked = "say --time-format, or --time none if the oldest row is first";
    let found = summary(read(counted("sample", &|at| format!("day {}", 300 - at))));
    assert_eq!(
        found,
        format!("refused, line 2, column sample: 'day 300' may be a time, in no known format; {asked}")
    );
    let later: String = (0..12).map(|at| format!("{}.5,step {}\n", at * at, 300 - at)).collect();
    let found = summary(read(format!("y,obs\n{later}")));
    assert_eq!(
        found,
        format!("refused, line 2, column obs: 'step 300' may be a time, in no known format; {asked}")
    );
    let found = summary(read(counted("Saison", &|at| format!("S {}", "x".repeat(at)))));
    assert!(
        found.starts_with("refused, line 2, column Saison: 'S' does not say the day and the year"),
        "{found}"
    );
    let falling = |at: usize| format!("{}.{:02}", (300 - 2 * at) / 100, (300 - 2 * at) % 100);
    let found = summary(read(counted("x", &falling)));
    assert_eq!(
        found,
        "refused, line 2, column x: x counts in even steps, and not upwards; say --time x if it is the time, or --time none"
    );
    let stated = read_with(counted("x", &falling), ReadOptions::new().time(["x"])).unwrap();
    assert_eq!(reported(&stated, "order"), "newest row first; sorted by time");
    let elapsed = read(counted("elapsed", &|at| format!("0.{:02}", (at * 5 % 12) * 2))).unwrap();
    assert_eq!(elapsed.series()[0].target(0)[..3], [0.5, 25.5, 100.5]);
    check(&[
        (
            "a year without its century",
            "date,y\n01.01.0023,1\n02.01.0023,2\n03.01.0023,4\n",
            "refused, line 2, column date: the year 0023 in '01.01.0023' lacks its century; write four digits, or say --time none",
        ),
        (
            "no numbers at all",
            "a,b\nx 1,u\nx 2,v\nx 3,w\nx 4,z\n",
            "refused: no column holds numbers to forecast; column b holds text, such as 'u'",
        ),
        ("names are no times", "name,y\nAda,1\nBob,2\nCyd,4\nDee,8\n", "1 [1.0, 2.0, 4.0, 8.0] -> 5 | 6"),
    ]);
}

#[test]
fn a_stated_format_finds_its_column_and_may_not_contradict_itself() {
    let table = "season,y\n2000-01,1\n2001-02,2\n2002-03,4\n";
    check_with(
        &[(
            "two years",
            table,
            "refused, line 2, column season: '2000-01' is not a time as --time-format says; correct the cell, or remove the line",
        )],
        ReadOptions::new().time_format("%Y-%y"),
    );
    check_with(
        &[("text", "a,b,y\nx,05|2000,1\ny,06|2000,2\n", "05|2000 [1.0, 2.0] -> 07|2000 | 08|2000")],
        ReadOptions::new().time_format("%m|%Y"),
    );
    check_with(
        &[(
            "no such column",
            "a,y\nx,1\ny,2\n",
            "refused: no column holds times as --time-format %m|%Y says; say another, or --time with the column",
        )],
        ReadOptions::new().time_format("%m|%Y"),
    );
}

#[test]
fn halves_of_numbers_are_no_columns() {
    let problem = |line: usize, number: &str, delimiter: &str| {
        format!(
            "refused, line {line}: '{number}' is one number or two columns; quote the numbers, or say --delimiter {delimiter} if they are columns"
        )
    };
    let cases = [
        ("2023-01-01,48,82\n2023-01-02,55,13\n2023-01-03,58,51\n", problem(1, "48,82", "comma")),
        ("2023-01-01,4,882\n2023-01-02,5,513\n2023-01-03,5,851\n", problem(1, "4,882", "comma")),
        ("date,price,\n2023-01-01,48,82\n2023-01-02,55,13\n", problem(2, "48,82", "comma")),
        ("2023-01-01 4 882\n2023-01-02 5 513\n2023-01-03 5 851\n", problem(1, "4 882", "spaces")),
        ("0,48,82\n1,55,13\n2,58,51\n3,51,24\n", problem(1, "48,82", "comma")),
        ("48,82,59,80\n55,13,61,78\n58,51,55,61\n", problem(1, "48,82", "comma")),
        (
            "date,a,b\n2023-01-01,48,82\n2023-01-02,55,13\n",
            "2023-01-01 [82.0, 13.0] -> 2023-01-03 | 2023-01-04".into(),
        ),
        (
            "2023-01-01,48.1,82\n2023-01-02,55.2,13\n",
            "2023-01-01 [82.0, 13.0] -> 2023-01-03 | 2023-01-04".into(),
        ),
        (
            "2023-01-01 4 82\n2023-01-02 5 13\n2023-01-03 5 51\n",
            "2023-01-01 [82.0, 13.0, 51.0] -> 2023-01-04 | 2023-01-05".into(),
        ),
    ];
    for (content, expected) in cases {
        assert_eq!(summary(read(content)), expected, "{content}");
    }
    let columns = ReadOptions::new().delimiter(gatefold_series::Delimiter::Char(b','));
    assert!(read_with("2023-01-01,48,82\n2023-01-02,55,13\n2023-01-03,58,51\n", columns).is_ok());
}

#[test]
fn everything_odd_is_reported() {
    let rows = |odd: &[(usize, &str)], usual: &dyn Fn(usize) -> f64| {
        let value =
            |at: usize| odd.iter().find(|odd| odd.0 == at).map_or(usual(at).to_string(), |odd| odd.1.into());
        (0..40).map(|at| format!("{}\n", value(at))).collect::<String>()
    };
    let wide = |at: usize| ((at * 37) % 40) as f64 * 25.0 + 1.5;
    let warnings =
        |content: String| read(content).unwrap().report().warnings().map(str::to_owned).collect::<Vec<_>>();
    let found = warnings(format!("y\n{}", rows(&[(3, "-999"), (20, "-999")], &wide)));
    assert_eq!(found, ["-999 comes 2 times: say --na -999 if it means no value"]);
    let narrow = |at: usize| 50.0 + ((at * 37) % 40) as f64 * 0.25;
    let found = warnings(format!("y\n{}", rows(&[(3, "-999"), (20, "9999.9"), (30, "1000000")], &narrow)));
    assert_eq!(
        found,
        [
            "-999 comes 1 time: say --na -999 if it means no value",
            "9999.9 comes 1 time: say --na 9999.9 if it means no value",
            "1 value far from the rest: 1000000 at 31",
        ]
    );
    // Negative values of a series that has others are values.
    let signed = |at: usize| ((at * 37) % 40) as f64 * 10.0 - 200.0;
    assert!(warnings(format!("y\n{}", rows(&[(3, "-99"), (20, "-99")], &signed))).is_empty());
    let guess = read_with(b"gr\xfc\xdfe\n1\n2\n4\n", ReadOptions::new()).unwrap();
    assert!(reported(&guess, "warning").contains("Windows-1252 guessed"));
    let stated =
        read_with(b"gr\xfc\xdfe\n1\n2\n4\n", ReadOptions::new().encoding(Encoding::Windows1252)).unwrap();
    assert!(!reported(&stated, "warning").contains("guess"));
}

#[test]
fn periods_that_are_not_whole_are_reported() {
    let rows: String = (13..24 * 5 + 6)
        .map(|hour| format!("2023-01-{:02} {:02}:00,{hour}\n", hour / 24 + 1, hour % 24))
        .collect();
    let options = ReadOptions::new().freq(Frequency::new(1, Unit::Day)).aggregate(Aggregate::Sum);
    let data = read_with(format!("ts,y\n{rows}"), options).unwrap();
    let warnings = reported(&data, "warning");
    assert!(warnings.contains("2023-01-01 00:00 has fewer rows than the other periods"), "{warnings}");
    assert!(warnings.contains("2023-01-06 00:00 has fewer rows than the other periods"), "{warnings}");
}

#[test]
fn a_padded_title_and_a_line_of_units_are_no_names() {
    check(&[
        (
            "a title",
            "Titel;;;\nshop;Datum;preis;menge\na;13.05.2023;4;1\na;14.05.2023;3;7\n",
            "13.05.2023 [1.0, 7.0] -> 15.05.2023 | 16.05.2023",
        ),
        (
            "units",
            "time,load\n-,MW\n2023-01-01,1.5\n2023-01-02,2.5\n",
            "2023-01-01 [1.5, 2.5] -> 2023-01-03 | 2023-01-04",
        ),
        (
            "names in brackets",
            "<DATE>,<CLOSE>\n20230101,1.5\n20230102,2.5\n",
            "20230101 [1.5, 2.5] -> 20230103 | 20230104",
        ),
    ]);
}

#[test]
fn what_the_time_says_is_no_target_and_other_marks_are_said() {
    let days: String = (1..=14)
        .map(|day| {
            format!(
                "2024-01-{day:02},{day}.5,{},{},1\n",
                (day + 6) % 7,
                i32::from(day % 7 > 5 || day % 7 == 0)
            )
        })
        .collect();
    let data = read(format!("date,sales,weekday,weekend,month\n{days}")).unwrap();
    assert_eq!(data.targets(), ["sales"]);
    let stated = read_with(
        format!("date,sales,weekday,weekend,month\n{days}"),
        ReadOptions::new().targets(["weekend"]),
    );
    assert_eq!(stated.unwrap().targets(), ["weekend"]);
    // One day that differs makes it a column of its own.
    let closed = days.replace("2024-01-03,3.5,2,0", "2024-01-03,3.5,2,1");
    assert_eq!(read(format!("date,sales,weekday,weekend,month\n{closed}")).unwrap().targets(), ["weekend"]);
    let mixed = read("date;a;b\n2024-01-01;1,5;1.5\n2024-01-02;2,5;2.5\n2024-01-03;3,5;3.5\n").unwrap();
    assert_eq!(
        reported(&mixed, "warning").split("; ").next(),
        Some("b has decimal points, a decimal commas")
    );
}

#[test]
fn characters_that_nobody_sees_are_no_part_of_a_cell() {
    let data = read(
        "\u{feff}\u{feff}date,y\n\u{200e}2024-01-01,1.5\u{200b}\n2024-01-02\u{200f},2.5\n2024-01-03,4\n",
    )
    .unwrap();
    assert_eq!(data.series()[0].target(0), [1.5, 2.5, 4.0]);
    assert_eq!(reported(&data, "time"), "date (%Y-%m-%d), daily");
}

#[test]
fn dates_tell_the_encoding_of_pairs_of_bytes() {
    let table = "日付,値\n2024年1月1日,5\n2024年1月2日,6.5\n2024年1月3日,8\n";
    for encoding in [encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP, encoding_rs::GBK, encoding_rs::BIG5] {
        let (bytes, _, lost) = encoding.encode(table);
        assert!(!lost || encoding != encoding_rs::SHIFT_JIS);
        if lost {
            continue;
        }
        let data = read(bytes.as_ref()).unwrap();
        assert!(reported(&data, "table").ends_with(encoding.name()), "{}", data.report());
        assert_eq!(data.targets(), ["値"]);
    }
}

/// Twelve hours, newest first, each written by a closure of the day and the hour, and 0.5, 1.5 and so on from the oldest.
fn hours_down(name: &str, label: &dyn Fn(usize, usize) -> String) -> String {
    let rows: String =
        (0..12).rev().map(|at| format!("{},{at}.5\n", label(3 + (at + 16) / 24, (at + 16) % 24))).collect();
    format!("{name},y\n{rows}")
}

#[test]
fn long_texts_that_hold_a_time_are_refused() {
    let asked =
        "may be a time, in no known format; say --time-format, or --time none if the oldest row is first";
    let utc = |day: usize, hour: usize| format!("2023-10-{day:02} {hour:02}:00 Coordinated Universal Time");
    let browser = |day: usize, hour: usize| {
        let name = ["Tue", "Wed"][day - 3];
        format!("{name} Oct {day:02} 2023 {hour:02}:00:00 GMT+0100 (Central European Standard Time)")
    };
    let clock = |day: usize, hour: usize| format!("{day:02}.10.2023 {hour:02}:00:00 Uhr (MESZ)");
    let labels: [&dyn Fn(usize, usize) -> String; 3] = [&utc, &browser, &clock];
    for label in labels {
        for name in ["x", "time"] {
            let found = summary(read(hours_down(name, label)));
            assert!(found.starts_with("refused, line 2, column ") && found.ends_with(asked), "{found}");
        }
        // In a later column, and beside a number of the row.
        let numbered = |day: usize, hour: usize| format!("{},{}", hour + 24 * day, label(day, hour));
        let found = summary(read(hours_down("n,x", &numbered)));
        assert!(found.starts_with("refused, line 2, column x: ") && found.ends_with(asked), "{found}");
    }
    // Notes are no times.
    let notes = "date,note,y\n2024-01-01,as of 2023-12-30,1\n2024-01-02,as of 2023-12-31,2\n2024-01-03,,4\n";
    assert_eq!(summary(read(notes)), "2024-01-01 [1.0, 2.0, 4.0] -> 2024-01-04 | 2024-01-05");
}

#[test]
fn intervals_are_read_as_their_starts() {
    let full = |day: usize, hour: usize| {
        let (next, end) = (day + (hour + 1) / 24, (hour + 1) % 24);
        format!("{day:02}.10.2023 {hour:02}:00 - {next:02}.10.2023 {end:02}:00")
    };
    let short =
        |day: usize, hour: usize| format!("{day:02}.10.2023 {hour:02}:00 - {:02}:00", (hour + 1) % 24);
    let rising = "[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5]";
    let labels: [&dyn Fn(usize, usize) -> String; 2] = [&full, &short];
    for label in labels {
        let data = read(hours_down("MTU (CET/CEST)", label));
        assert_eq!(
            summary(data),
            format!("03.10.2023 16:00 {rising} -> 04.10.2023 04:00 | 04.10.2023 05:00")
        );
    }
    let iso =
        |day: usize, hour: usize| format!("2023-10-{day:02}T{hour:02}:00/2023-10-{day:02}T{hour:02}:59");
    let data = read(hours_down("x", &iso)).unwrap();
    assert_eq!(
        reported(&data, "warning").split(';').next(),
        Some("intervals read as their starts, the first as '2023-10-04T03:00'")
    );
}

#[test]
fn digits_with_years_of_two_digits_are_refused() {
    let table = |name: &str, cells: Vec<String>| {
        let rows: String = cells.iter().enumerate().map(|(at, cell)| format!("{cell},{at}.5\n")).collect();
        format!("{name},y\n{rows}")
    };
    let days = || (1..=31).map(|day| format!("2301{day:02}")).collect::<Vec<_>>();
    let months = || (1..=12).map(|month| format!("23{month:02}")).collect::<Vec<_>>();
    let two = "has two digits; say --time-format, such as";
    let cases = [
        ("date", days(), "refused, line 2, column date: '230101' may be %y%m%d or %d%m%y, with a year of two digits, or %G%V; say which with --time-format".to_owned()),
        ("x", (0..40).rev().map(|day| format!("23{:02}{:02}", 1 + day / 31, 1 + day % 31)).collect(), format!("refused, line 2, column x: the year in '230209' {two} %y%m%d or %d%m%y")),
        ("Datum", (1..=31).map(|day| format!("{day:02}0123")).collect(), format!("refused, line 2, column Datum: the year in '010123' {two} %y%m%d or %d%m%y")),
        ("month", months(), "refused, line 2, column month: '2301' may be %y%m, with a year of two digits, or %Y; say which with --time-format".to_owned()),
        ("month", (1..=12).map(|month| format!("20{month:02}")).collect(), "refused, line 2, column month: '2001' may be %y%m, with a year of two digits, or %Y; say which with --time-format".to_owned()),
        ("month", (1..=12).map(|month| format!("{month:02}23")).collect(), format!("refused, line 2, column month: the year in '0123' {two} %m%y")),
        ("yearweek", (1..=52).map(|week| format!("23{week:02}")).collect(), "refused, line 2, column yearweek: '2301' may be %y%V, with a year of two digits, or %Y; say which with --time-format".to_owned()),
        ("ts", (0..48).map(|hour| format!("2301{:02}{:02}00", 1 + hour / 24, hour % 24)).collect(), format!("refused, line 2, column ts: the year in '2301010000' {two} %y%m%d%H%M or %d%m%y%H%M")),
    ];
    for (name, cells, expected) in cases {
        assert_eq!(summary(read(table(name, cells))), expected);
    }
    let stated = |pattern: &str| ReadOptions::new().time_format(pattern);
    let data = read_with(table("month", months()), stated("%y%m")).unwrap();
    assert_eq!(data.calendar().labels(12..14), ["2401", "2402"]);
    let data = read_with(table("date", days()), stated("%y%m%d")).unwrap();
    assert_eq!(data.calendar().labels(31..33), ["230201", "230202"]);
    let names = months().join(",");
    let found = summary(read(format!("sku,{names}\na,{}\n", names.replace("23", ""))));
    assert_eq!(
        found,
        "refused, line 1: the name '2301' may be %y%m, with a year of two digits, or %Y; say which with --time-format"
    );
    // Years of our time stay years, and a count a count.
    assert_eq!(
        read(table("year", (2001..2013).map(|year| year.to_string()).collect()))
            .unwrap()
            .calendar()
            .label(12),
        "2013"
    );
    let count = read(table("n", (230_101..230_132).map(|count| count.to_string()).collect())).unwrap();
    assert_eq!(reported(&count, "time"), "n, numbers in steps of 1");
}

#[test]
fn dates_as_digits_are_read_if_only_one_reading_is_possible() {
    let table = |name: &str, cells: Vec<String>| {
        let rows: String =
            cells.iter().enumerate().rev().map(|(at, cell)| format!("{cell},{at}.5\n")).collect();
        format!("{name},y\n{rows}")
    };
    let read_as = |name: &str, cells: Vec<String>| {
        let count = cells.len() as i64;
        let data = read(table(name, cells)).unwrap();
        assert_eq!(data.series()[0].target(0)[..3], [0.5, 1.5, 2.5], "newest first");
        format!("{} -> {}", reported(&data, "time"), data.calendar().label(count))
    };
    let day_first = || (1..=31).map(|day| format!("{day:02}012023")).collect::<Vec<_>>();
    assert_eq!(read_as("date", day_first()), "date (%d%m%Y), daily -> 01022023");
    assert_eq!(read_as("x", day_first()), "x (%d%m%Y), daily -> 01022023");
    let lost_zeros = day_first().iter().map(|cell| cell.trim_start_matches('0').to_owned()).collect();
    assert_eq!(read_as("date", lost_zeros), "date (%d%m%Y), daily -> 01022023");
    let month_first = (1..=31).map(|day| format!("01{day:02}2023")).collect();
    assert_eq!(read_as("date", month_first), "date (%m%d%Y), daily -> 02012023");
    let of_year = || (306..=365).map(|day| format!("2023{day}")).collect::<Vec<_>>();
    assert_eq!(read_as("date", of_year()), "date (%Y%j), daily -> 2024001");
    assert_eq!(read_as("day", of_year()), "day (%Y%j), daily -> 2024001");
    let found = summary(read(table("date", day_first()[..12].to_vec())));
    assert_eq!(
        found,
        "refused, line 2, column date: '12012023' may be %d%m%Y or %m%d%Y; say which with --time-format"
    );
    let hours = (0..48).map(|hour| format!("2023{:03}{:02}", 3 + hour / 24, hour % 24)).collect();
    assert_eq!(read_as("date", hours), "date (%Y%j%H), hourly -> 202300500");
    let quarters =
        (2015..2021).flat_map(|year| (1..=4).map(move |quarter| format!("{year}{quarter}"))).collect();
    assert_eq!(read_as("quarter", quarters), "quarter (%Y%q), quarterly -> 20211");
    let ordinals = (738_887..738_900).map(|day| day.to_string()).collect();
    assert_eq!(
        summary(read(table("date", ordinals))),
        "refused, line 2, column date: '738899' is no date in a known format; say --time-format, or --time none if the oldest row is first"
    );
}

#[test]
fn a_month_beyond_twelve_is_named() {
    let problem = |line: usize| {
        format!(
            "refused, line {line}, column date: '2023-13-01' has no such month; correct it, or say --time-format %Y-%d-%m if the day comes before the month"
        )
    };
    let all = "date,y\n2023-13-01,1\n2023-14-01,3\n2023-15-01,4\n2023-16-01,5\n";
    let half = "date,y\n2023-01-01,1\n2023-02-01,3\n2023-13-01,4\n2023-14-01,5\n";
    check(&[("all", all, &problem(2)), ("half", half, &problem(4))]);
    let options = ReadOptions::new().time_format("%Y-%d-%m");
    check_with(&[("stated", all, "2023-13-01 [1.0, 3.0, 4.0, 5.0] -> 2023-17-01 | 2023-18-01")], options);
}
