//! Times: their formats, and the columns that hold them.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::ReadOptions;

/// Three rows of a format: the labels, and the two that follow.
fn three(labels: [&str; 3], next: &str) -> (String, String) {
    let rows: Vec<String> =
        labels.iter().enumerate().map(|(at, label)| format!("\"{label}\"\t{}.5", at + 1)).collect();
    (format!("when\ty\n{}\n", rows.join("\n")), format!("{} [1.5, 2.5, 3.5] -> {next}", labels[0]))
}

#[test]
fn formats_are_found_and_continued() {
    let cases = [
        (["2024-02-27", "2024-02-28", "2024-02-29"], "2024-03-01 | 2024-03-02"),
        (["2024/02/27", "2024/02/28", "2024/02/29"], "2024/03/01 | 2024/03/02"),
        (["27.02.2024", "28.02.2024", "29.02.2024"], "01.03.2024 | 02.03.2024"),
        (["2/27/2024", "2/28/2024", "2/29/2024"], "3/1/2024 | 3/2/2024"),
        (["27/2/2024", "28/2/2024", "29/2/2024"], "1/3/2024 | 2/3/2024"),
        (["27-Feb-2024", "28-Feb-2024", "29-Feb-2024"], "01-Mar-2024 | 02-Mar-2024"),
        (["Feb 27, 2024", "Feb 28, 2024", "Feb 29, 2024"], "Mar 01, 2024 | Mar 02, 2024"),
        (["February 27, 2024", "February 28, 2024", "February 29, 2024"], "March 01, 2024 | March 02, 2024"),
        (["27. Februar 2024", "28. Februar 2024", "29. Februar 2024"], "01. März 2024 | 02. März 2024"),
        (["27 févr. 2024", "28 févr. 2024", "29 févr. 2024"], "01 mars 2024 | 02 mars 2024"),
        (["avr. 2023", "mai 2023", "juin 2023"], "juil. 2023 | août 2023"),
        (["avr. 2023", "mai. 2023", "juin. 2023"], "juil. 2023 | août. 2023"),
        (["Tue 27 Feb 2024", "Wed 28 Feb 2024", "Thu 29 Feb 2024"], "Fri 01 Mar 2024 | Sat 02 Mar 2024"),
        (["Tue Feb 27 2024", "Wed Feb 28 2024", "Thu Feb 29 2024"], "Fri Mar 01 2024 | Sat Mar 02 2024"),
        (["2024年2月27日", "2024年2月28日", "2024年2月29日"], "2024年3月1日 | 2024年3月2日"),
        (["2023년 11월", "2023년 12월", "2024년 1월"], "2024년 2월 | 2024년 3월"),
        (["MON, 26 FEB 2024", "TUE, 27 FEB 2024", "WED, 28 FEB 2024"], "THU, 29 FEB 2024 | FRI, 01 MAR 2024"),
        (["Jan 2024", "Feb 2024", "Mar 2024"], "Apr 2024 | May 2024"),
        (["2012-10", "2012-11", "2012-12"], "2013-01 | 2013-02"),
        (["10/2012", "11/2012", "12/2012"], "01/2013 | 02/2013"),
        (["2012M10", "2012M11", "2012M12"], "2013M01 | 2013M02"),
        (["2012Q2", "2012Q3", "2012Q4"], "2013Q1 | 2013Q2"),
        (["2012-Q2", "2012-Q3", "2012-Q4"], "2013-Q1 | 2013-Q2"),
        (["Q2 2012", "Q3 2012", "Q4 2012"], "Q1 2013 | Q2 2013"),
        (["2012-W50", "2012-W51", "2012-W52"], "2013-W01 | 2013-W02"),
        (["2012-W51", "2012-W52", "2013-W01"], "2013-W02 | 2013-W03"),
        (["2020-W51", "2020-W52", "2020-W53"], "2021-W01 | 2021-W02"),
        (["2012-365", "2012-366", "2013-001"], "2013-002 | 2013-003"),
        (
            ["2023-12-31T22:00:00Z", "2023-12-31T23:00:00Z", "2024-01-01T00:00:00Z"],
            "2024-01-01T01:00:00Z | 2024-01-01T02:00:00Z",
        ),
        (
            ["2023-12-30T00:00:00Z", "2023-12-31T00:00:00Z", "2024-01-01T00:00:00Z"],
            "2024-01-02T00:00:00Z | 2024-01-03T00:00:00Z",
        ),
        (["20231231T220000Z", "20231231T230000Z", "20240101T000000Z"], "20240101T010000Z | 20240101T020000Z"),
        (["20231231 22:00", "20231231 23:00", "20240101 00:00"], "20240101 01:00 | 20240101 02:00"),
        (["2023-12-31 23:15", "2023-12-31 23:30", "2023-12-31 23:45"], "2024-01-01 00:00 | 2024-01-01 00:15"),
        (
            ["12/31/2023 9:00 PM", "12/31/2023 10:00 PM", "12/31/2023 11:00 PM"],
            "1/1/2024 12:00 AM | 1/1/2024 1:00 AM",
        ),
        (
            ["2024-01-01 00:00:00.25", "2024-01-01 00:00:00.50", "2024-01-01 00:00:00.75"],
            "2024-01-01 00:00:01.00 | 2024-01-01 00:00:01.25",
        ),
        (
            ["2024-01-01T00:00:00+0530", "2024-01-01T00:30:00+0530", "2024-01-01T01:00:00+0530"],
            "2024-01-01T01:30:00+0530 | 2024-01-01T02:00:00+0530",
        ),
        (
            ["31/Dec/2023:22:00:00 +0000", "31/Dec/2023:23:00:00 +0000", "01/Jan/2024:00:00:00 +0000"],
            "01/Jan/2024:01:00:00 +0000 | 01/Jan/2024:02:00:00 +0000",
        ),
    ];
    let mut failures = Vec::new();
    for (labels, next) in cases {
        let (content, expected) = three(labels, next);
        let found = summary(read(&content));
        if found != expected {
            failures.push(format!("found    {found}\nexpected {expected}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn numbers_that_are_times_are_found() {
    check(&[
        ("years", "year,y\n1999,1.5\n2000,2.5\n2001,4\n2002,1\n", "1999 [1.5, 2.5, 4.0, 1.0] -> 2003 | 2004"),
        (
            "compact dates",
            "date,y\n20240227,1.5\n20240228,2.5\n20240229,4\n",
            "20240227 [1.5, 2.5, 4.0] -> 20240301 | 20240302",
        ),
        (
            "compact months",
            "x,y\n202311,1.5\n202312,2.5\n202401,4\n",
            "202311 [1.5, 2.5, 4.0] -> 202402 | 202403",
        ),
        (
            "epoch last",
            "y,time\n1.5,1672531200\n2.5,1672534800\n4,1672538400\n",
            "1672531200 [1.5, 2.5, 4.0] -> 1672542000 | 1672545600",
        ),
        (
            "epoch in ms",
            "y,ts\n1.5,1672531200000\n2.5,1672531200020\n4,1672531200040\n",
            "1672531200000 [1.5, 2.5, 4.0] -> 1672531200060 | 1672531200080",
        ),
        (
            "epoch of floats",
            "y,time\n1.5,1672531200.0\n2.5,1672534800.0\n4,1672538400.0\n",
            "1672531200 [1.5, 2.5, 4.0] -> 1672542000 | 1672545600",
        ),
        ("row numbers last", "y,id\n1.5,0\n2.5,1\n4,2\n3,3\n", "0 [1.5, 2.5, 4.0, 3.0] -> 4 | 5"),
        ("steps of a number", "t,y\n0.00,1.5\n0.02,2.5\n0.04,4\n", "0.00 [1.5, 2.5, 4.0] -> 0.06 | 0.08"),
        ("only one column of numbers", "y\n1\n2\n3\n4\n", "1 [1.0, 2.0, 3.0, 4.0] -> 5 | 6"),
        (
            "an index that pandas wrote",
            ",date,y\n0,2001-01,5\n1,2001-02,7\n2,2001-03,6\n3,2001-04,8\n",
            "2001-01 [5.0, 7.0, 6.0, 8.0] -> 2001-05 | 2001-06",
        ),
    ]);
}

#[test]
fn parts_of_a_time_in_several_columns_are_joined() {
    check(&[
        (
            "year and quarter",
            "year,quarter,y\n2001,3,1\n2001,4,2\n2002,1,5\n",
            "2001Q3 [1.0, 2.0, 5.0] -> 2002Q2 | 2002Q3",
        ),
        (
            "year and month",
            "Year,Month,y\n2001,11,1\n2001,12,2\n2002,1,5\n",
            "2001-11 [1.0, 2.0, 5.0] -> 2002-02 | 2002-03",
        ),
        (
            "year, month and day",
            "year,month,day,y\n2024,2,27,1\n2024,2,28,2\n2024,2,29,5\n",
            "2024-02-27 [1.0, 2.0, 5.0] -> 2024-03-01 | 2024-03-02",
        ),
        (
            "date and time",
            "date,time,y\n2024-01-01,22:00,1\n2024-01-01,23:00,2\n2024-01-02,00:00,5\n",
            "2024-01-01 22:00 [1.0, 2.0, 5.0] -> 2024-01-02 01:00 | 2024-01-02 02:00",
        ),
        (
            "date and hour",
            "date,hour,y\n2024-01-01,22,1\n2024-01-01,23,2\n2024-01-02,0,5\n",
            "2024-01-01 22:00 [1.0, 2.0, 5.0] -> 2024-01-02 01:00 | 2024-01-02 02:00",
        ),
        (
            "separated by spaces",
            "date time y\n2024-01-01 22:00 1\n2024-01-01 23:00 2\n2024-01-02 00:00 5\n",
            "2024-01-01 22:00 [1.0, 2.0, 5.0] -> 2024-01-02 01:00 | 2024-01-02 02:00",
        ),
    ]);
}

#[test]
fn days_and_months_are_told_apart_over_the_whole_column_or_not_at_all() {
    let months = |order: fn(i64) -> String| -> String {
        let rows: Vec<String> = (0..24).map(|k| format!("{},{}", order(k), k * k % 7)).collect();
        format!("date,y\n{}\n", rows.join("\n"))
    };
    let european = months(|k| format!("01/{:02}/{}", k % 12 + 1, 2020 + k / 12));
    assert!(summary(read(&european)).ends_with("-> 01/01/2022 | 01/02/2022"), "{}", summary(read(&european)));
    let american = months(|k| format!("{:02}/01/{}", k % 12 + 1, 2020 + k / 12));
    assert!(summary(read(&american)).ends_with("-> 01/01/2022 | 02/01/2022"), "{}", summary(read(&american)));
    check(&[
        (
            "a late day",
            "date,y\n1/2/2020,1\n2/2/2020,2\n13/2/2020,3\n",
            "refused, line 3, column date: 10 of 13 moments have no row, first after 2/2/2020; ask for a fill: --fill previous, linear or zero, or --time none for rows as they are",
        ),
        (
            "too few rows to tell",
            "date,y\n01/11/2020,1\n01/12/2020,2\n01/01/2021,3\n",
            "refused, line 2, column date: '01/11/2020' may be %d/%m/%Y or %m/%d/%Y; say which with --time-format",
        ),
        (
            "nothing tells",
            "date,y\n01/02/2020,1\n02/02/2020,2\n03/02/2020,3\n",
            "refused, line 2, column date: '01/02/2020' may be %d/%m/%Y or %m/%d/%Y; say which with --time-format",
        ),
        (
            "two digits",
            "date,y\n01/02/20,1\n02/02/20,2\n03/02/20,3\n",
            "refused, line 2, column date: the year in '01/02/20' has two digits; say --time-format, such as %d/%m/%y",
        ),
        (
            "no such day",
            "date,y\n2023-02-27,1\n2023-02-28,2\n2023-02-29,3\n",
            "refused, line 4, column date: '2023-02-29' is not a time like '2023-02-27'; correct the cell, or remove the line",
        ),
        (
            "a missing time",
            "date,y\n2023-02-27,1\n,2\n2023-03-01,3\n",
            "refused, line 3, column date: the time is missing; fill it in, or remove the line",
        ),
        (
            "a total",
            "date,y\n2023-02-27,1\n2023-02-28,2\nTotal,3\n",
            "refused, line 4, column date: 'Total' is not a time like '2023-02-27'; correct the cell, or remove the line",
        ),
    ]);
    let content = "date,y\n01/02/20,1\n02/02/20,2\n03/02/20,3\n";
    let found = summary(read_with(content, ReadOptions::new().time_format("%d/%m/%y")));
    assert_eq!(found, "01/02/20 [1.0, 2.0, 3.0] -> 04/02/20 | 05/02/20");
    let found = summary(read_with(content, ReadOptions::new().time_format("%m/%d/%y")));
    assert_eq!(found, "01/02/20 [1.0, 2.0, 3.0] -> 04/02/20 | 05/02/20");
}

#[test]
fn time_options_are_kept_to_or_contradicted() {
    let table = "a,b,y\n2024-01-01,2024-02-01,1\n2024-01-02,2024-03-01,2\n2024-01-03,2024-04-01,4\n";
    let found = |options: ReadOptions| summary(read_with(table, options));
    assert_eq!(found(ReadOptions::new()), "2024-01-01 [1.0, 2.0, 4.0] -> 2024-01-04 | 2024-01-05");
    assert_eq!(
        found(ReadOptions::new().time(["b"])),
        "2024-02-01 [1.0, 2.0, 4.0] -> 2024-05-01 | 2024-06-01"
    );
    assert_eq!(found(ReadOptions::new().no_time()), "1 [1.0, 2.0, 4.0] -> 4 | 5");
    assert_eq!(found(ReadOptions::new().time(["c"])), "refused: there is no column c; columns of numbers: y");
    assert_eq!(
        found(ReadOptions::new().time_format("%d.%m.%Y")),
        "refused, line 2, column a: '2024-01-01' is not a time as --time-format says; correct the cell, or remove the line"
    );
    assert_eq!(found(ReadOptions::new().time_format("%Q")), "refused: --time-format %Q: %Q is unknown");
    assert!(found(ReadOptions::new().time_format("%H:%M")).contains("it does not say the year"));
    assert_eq!(
        found(ReadOptions::new().zone("Europe/Atlantis")),
        "refused: there is no time zone 'Europe/Atlantis'; use a name such as Europe/Berlin"
    );
    assert_eq!(
        found(ReadOptions::new().time(["y"]).targets(["y"])),
        "refused, line 3, column y: 1 of 4 moments have no row, first after 2; ask for a fill: --fill previous, linear or zero, or --time none for rows as they are"
    );
    check_with(
        &[("a short year", "d,y\n3/1/07,1\n4/1/07,2\n", "3/1/07 [1.0, 2.0] -> 5/1/07 | 6/1/07")],
        ReadOptions::new().time_format("%m/%d/%y"),
    );
    let data = read(table).unwrap();
    assert_eq!(reported(&data, "time"), "a (%Y-%m-%d), daily");
}
