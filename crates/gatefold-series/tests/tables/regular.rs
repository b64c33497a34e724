//! Order, repeated moments, gaps, missing values and the future.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::{Aggregate, Fill, Frequency, ReadOptions, Unit};

#[test]
fn rows_are_sorted_by_time_and_that_is_said() {
    let newest = "date,y\n2024-01-03,3\n2024-01-02,2\n2024-01-01,1\n";
    assert_eq!(summary(read(newest)), "2024-01-01 [1.0, 2.0, 3.0] -> 2024-01-04 | 2024-01-05");
    assert_eq!(reported(&read(newest).unwrap(), "order"), "newest row first; sorted by time");
    let mixed = "date,y\n2024-01-03,3\n2024-01-01,1\n2024-01-02,2\n";
    assert_eq!(summary(read(mixed)), "2024-01-01 [1.0, 2.0, 3.0] -> 2024-01-04 | 2024-01-05");
    assert_eq!(reported(&read(mixed).unwrap(), "order"), "rows not in order of time; sorted");
    assert_eq!(summary(read("n,y\n4,4\n3,3\n2,5\n1,1\n")), "1 [1.0, 5.0, 3.0, 4.0] -> 5 | 6");
}

#[test]
fn gaps_are_refused_or_filled_and_counted() {
    let table = "date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-05,8\n2024-01-06,3\n";
    let gap = "refused, line 3, column date: 2 of 6 moments have no row, first after 2024-01-02; ask for a fill: --fill previous, linear or zero, or --time none for rows as they are";
    check(&[("refused", table, gap)]);
    let filled = |fill| read_with(table, ReadOptions::new().fill(fill)).unwrap();
    assert_eq!(filled(Fill::Previous).series()[0].target(0), [1.0, 2.0, 2.0, 2.0, 8.0, 3.0]);
    assert_eq!(filled(Fill::Linear).series()[0].target(0), [1.0, 2.0, 4.0, 6.0, 8.0, 3.0]);
    assert_eq!(filled(Fill::Zero).series()[0].target(0), [1.0, 2.0, 0.0, 0.0, 8.0, 3.0]);
    let data = filled(Fill::Linear);
    assert_eq!(reported(&data, "gaps"), "2 moments without a row, first after 2024-01-02");
    assert_eq!(data.report().filled(), 2);
    // A year that is a typing error is not filled with a million rows.
    let far = "date,y\n2024-01-01,1\n2024-01-02,2\n2204-01-03,8\n";
    assert!(summary(read_with(far, ReadOptions::new().fill(Fill::Previous))).contains("moments have no row"));
}

#[test]
fn missing_values_are_refused_or_filled() {
    let table = "y,x\n,1\n1,2\n,3\nNA,4\n4,5\n";
    let y = || ReadOptions::new().targets(["y"]);
    let found = summary(read_with(table, y()));
    assert_eq!(
        found,
        "refused, line 4, column y: the cell is missing (2 in all); fill in a number, or ask for a fill: --fill previous, linear or zero"
    );
    let data = read_with(table, y().fill(Fill::Linear)).unwrap();
    assert_eq!(data.series()[0].target(0), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(reported(&data, "left out"), "1 row before the first value");
    assert_eq!(reported(&data, "filled"), "2 missing values with a straight line");
    assert_eq!(
        read_with(table, y().fill(Fill::Previous)).unwrap().series()[0].target(0),
        [1.0, 1.0, 1.0, 4.0]
    );
    check(&[(
        "none at all",
        "date,y,x\n2024-01-01,,a\n2024-01-02,,b\n",
        "refused: no column holds numbers to forecast; column x holds text, such as 'a'",
    )]);
}

#[test]
fn rows_at_the_end_without_a_value_are_the_future() {
    let table = "date,x,y\n2024-01-01,1,5\n2024-01-02,2,6\n2024-01-03,4,\n2024-01-04,8,NaN\n";
    for fill in [Fill::Refuse, Fill::Previous, Fill::Linear, Fill::Zero] {
        let data = read_with(table, ReadOptions::new().fill(fill).targets(["y"])).unwrap();
        let series = &data.series()[0];
        assert_eq!((series.target(0), series.future_len()), (&[5.0, 6.0][..], 2), "{fill:?}");
        assert_eq!(series.future_covariate(0), [4.0, 8.0]);
        assert_eq!(reported(&data, "future"), "2 rows at the end without a value: to be forecast");
    }
    assert_eq!(
        summary(read_with(table, ReadOptions::new().targets(["y"]))),
        "2024-01-01 [5.0, 6.0] +2 -> 2024-01-03 | 2024-01-04"
    );
}

#[test]
fn repeated_moments_are_refused_or_made_one() {
    let table = "date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-02,5\n2024-01-03,4\n";
    let found = |aggregate| {
        read_with(table, ReadOptions::new().aggregate(aggregate)).unwrap().series()[0].target(0).to_vec()
    };
    assert_eq!(found(Aggregate::Mean), [1.0, 3.5, 4.0]);
    assert_eq!(found(Aggregate::Sum), [1.0, 7.0, 4.0]);
    assert_eq!(found(Aggregate::First), [1.0, 2.0, 4.0]);
    assert_eq!(found(Aggregate::Last), [1.0, 5.0, 4.0]);
    check(&[(
        "refused",
        table,
        "refused, line 4, column date: 2024-01-02 comes twice, first as '2024-01-02'; say --id if a column tells series apart, or --agg mean, sum, first or last",
    )]);
}

#[test]
fn shorter_periods_are_made_longer_ones() {
    let sum = |freq: &str| ReadOptions::new().freq(freq.parse().unwrap()).aggregate(Aggregate::Sum);
    let hours = "date,y\n2024-01-31 22:00,1\n2024-01-31 23:00,2\n2024-02-01 00:00,5\n2024-02-01 07:30,4\n2024-02-02 00:00,8\n";
    check_with(
        &[("days", hours, "2024-01-31 00:00 [3.0, 9.0, 8.0] -> 2024-02-03 00:00 | 2024-02-04 00:00")],
        sum("d"),
    );
    check_with(
        &[("months", hours, "2024-01-01 00:00 [3.0, 17.0] -> 2024-03-01 00:00 | 2024-04-01 00:00")],
        sum("m"),
    );
    check_with(
        &[("quarters", hours, "2024-01-01 00:00 [20.0] -> 2024-04-01 00:00 | 2024-07-01 00:00")],
        sum("q"),
    );
    check_with(
        &[("weeks", hours, "2024-01-29 00:00 [20.0] -> 2024-02-05 00:00 | 2024-02-12 00:00")],
        sum("w"),
    );
    let freq = Frequency::new(2, Unit::Day);
    assert_eq!((freq.count(), freq.unit()), (2, Unit::Day));
}

#[test]
fn reports_are_short_and_narrow() {
    let table = format!(
        "\u{feff}a preamble\n\ndate;{}\n2024-01-03;1,5\n2024-01-02;2,5\n2024-01-01;3,5\n",
        "long name ".repeat(30)
    );
    let report = read(table).unwrap().report().to_string();
    assert!(report.lines().count() <= 12, "{report}");
    for line in report.lines() {
        assert!(line.chars().count() <= 76, "{line}");
    }
    assert!(report.contains("order     newest row first"), "{report}");
}

#[test]
fn what_a_period_lacks_is_refused_and_counted() {
    let weeks = |cell: &dyn Fn(usize) -> Option<&'static str>| {
        let rows = (0..70).filter_map(|at| {
            let (month, day) =
                [(1, 31), (2, 28), (3, 31)].into_iter().fold((0, at + 2), |(found, day), (month, days)| {
                    if found == 0 && day <= days {
                        (month, day)
                    } else if found == 0 {
                        (0, day - days)
                    } else {
                        (found, day)
                    }
                });
            Some(format!("2023-{month:02}-{day:02},{}\n", cell(at)?))
        });
        format!("date,y\n{}", rows.collect::<String>())
    };
    let lost = |at: usize| (57..60).contains(&at);
    let cells = weeks(&|at| Some(if lost(at) { "" } else { "10" }));
    let absent = weeks(&|at| (!lost(at)).then_some("10"));
    let weekly = |aggregate| ReadOptions::new().freq(Frequency::new(1, Unit::Week)).aggregate(aggregate);
    for aggregate in [Aggregate::Sum, Aggregate::Mean, Aggregate::First, Aggregate::Last] {
        assert_eq!(
            summary(read_with(&cells, weekly(aggregate))),
            "refused, line 59, column y: the cell is missing (3 in all); fill in a number, or ask for a fill: --fill previous, linear or zero"
        );
        assert_eq!(
            summary(read_with(&absent, weekly(aggregate))),
            "refused, line 58, column date: 3 of 70 moments have no row, first after 2023-02-27; ask for a fill: --fill previous, linear or zero, or --time none for rows as they are"
        );
    }
    for content in [&cells, &absent] {
        let zero = read_with(content, weekly(Aggregate::Sum).fill(Fill::Zero)).unwrap();
        assert_eq!(zero.series()[0].target(0)[7..], [70.0, 40.0, 70.0]);
        assert!(
            reported(&zero, "warning").contains("3 moments within periods have no value: made of the others")
        );
        // A sum of less than all days is no value: the fill makes the week's up, and that is never scored.
        let line = read_with(content, weekly(Aggregate::Sum).fill(Fill::Linear)).unwrap();
        assert_eq!(line.series()[0].target(0)[7..], [70.0, 70.0, 70.0]);
        assert_eq!(line.series()[0].made_up(0), [8]);
        let mean = read_with(content, weekly(Aggregate::Mean).fill(Fill::Previous)).unwrap();
        assert_eq!(mean.series()[0].target(0)[7..], [10.0, 10.0, 10.0]);
    }
    // Days at the end that are not known yet make a last week that is not whole.
    let tail = weeks(&|at| Some(if at > 66 { "" } else { "10" }));
    let data = read_with(tail, weekly(Aggregate::Sum)).unwrap();
    assert!(reported(&data, "warning").contains("2023-03-06 has fewer rows than the other periods"));
    // Rows of one moment, one of them without a value.
    let twice = "date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-02,\n2024-01-03,4\n";
    assert!(
        summary(read_with(twice, ReadOptions::new().aggregate(Aggregate::Sum)))
            .contains("the cell is missing (the only one)")
    );
    // Events come when they come.
    let events = "when,y\n2024-01-01 10:03:20,1\n2024-01-01 17:40:01,2\n2024-01-02 03:00:09,4\n2024-01-04 08:15:30,8\n2024-01-09 11:59:59,3\n";
    assert_eq!(
        summary(read_with(events, weekly(Aggregate::Sum))),
        "2024-01-01 00:00:00 [15.0, 3.0] -> 2024-01-15 00:00:00 | 2024-01-22 00:00:00"
    );
}

#[test]
fn the_last_hour_of_a_day_belongs_to_it() {
    let days = |write: &dyn Fn(usize, usize) -> String| {
        let times = (1..=28).flat_map(|day| (1..=24).map(move |hour| (day, hour)));
        times.map(|(day, hour)| write(day, hour)).collect::<String>()
    };
    let numbered = days(&|day, hour| format!("2023-01-{day:02},{hour},{hour}\n"));
    let ending = days(&|day, hour| format!("2023-01-{day:02},HE{hour},{hour}\n"));
    let clock = days(&|day, hour| format!("2023-01-{day:02} {hour:02}:00,{hour}\n"));
    let names: Vec<String> = (1..=24).map(|hour| format!("HE{hour}")).collect();
    let values: Vec<String> = (1..=24).map(|hour| hour.to_string()).collect();
    let wide: String = (1..=28).map(|day| format!("2023-01-{day:02},{}\n", values.join(","))).collect();
    let tables = [
        format!("date,hour,load\n{numbered}"),
        format!("date,hour ending,load\n{ending}"),
        format!("time,load\n{clock}"),
        format!("date,{}\n{wide}", names.join(",")),
    ];
    let sum = |unit| ReadOptions::new().freq(Frequency::new(1, unit)).aggregate(Aggregate::Sum);
    for table in &tables {
        let data = read_with(table, sum(Unit::Day)).unwrap();
        assert_eq!(data.series()[0].target(0), [300.0; 28], "{}", &table[..20]);
        assert_eq!(data.calendar().label(0), "2023-01-01 00:00");
        assert!(!reported(&data, "warning").contains("fewer rows"));
        assert_eq!(read_with(table, sum(Unit::Month)).unwrap().series()[0].target(0), [8400.0]);
        // Hours stay where they are.
        assert_eq!(read_with(table, sum(Unit::Hour)).unwrap().calendar().label(0), "2023-01-01 01:00");
    }
}
