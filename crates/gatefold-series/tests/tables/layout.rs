//! Several series in one table, targets, covariates and columns that do not change.

use super::{check, check_with, read, read_with, reported, summary};
use gatefold_series::{Layout, ReadOptions, StaticValue};

const PANEL: &str = "unique_id,t,size,y\nA,0,2,1.5\nA,1,2,2.5\nA,2,2,3.5\nB,1,7,10\nB,2,7,20\n";

#[test]
fn an_id_is_found_where_times_repeat() {
    let data = read(PANEL).unwrap();
    assert_eq!(summary(read(PANEL)), "A: 0 [1.5, 2.5, 3.5] -> 3 | 4; B: 1 [10.0, 20.0] -> 3 | 4");
    assert_eq!(data.statics(), ["size"]);
    assert_eq!(data.series()[1].statics(), [StaticValue::Number(7.0)]);
    assert_eq!(reported(&data, "series"), "2, told apart by unique_id (found)");
    check(&[
        (
            "dates",
            "shop,date,y\nn,2024-01-01,1\ns,2024-01-01,5\nn,2024-01-02,2\ns,2024-01-02,7\n",
            "n: 2024-01-01 [1.0, 2.0] -> 2024-01-03 | 2024-01-04; s: 2024-01-01 [5.0, 7.0] -> 2024-01-03 | 2024-01-04",
        ),
        (
            "two columns",
            "a,b,t,y\nx,u,0,1\nx,u,1,2\nx,v,0,3\nx,v,1,4\nw,u,0,5\nw,u,1,6\nw,v,0,7\nw,v,1,8.5\n",
            "x/u: 0 [1.0, 2.0] -> 2 | 3; x/v: 0 [3.0, 4.0] -> 2 | 3; w/u: 0 [5.0, 6.0] -> 2 | 3; w/v: 0 [7.0, 8.5] -> 2 | 3",
        ),
        (
            "text beside a doubled date is no id",
            "date,sky,y\n2024-01-01,sun,1\n2024-01-02,rain,2\n2024-01-02,sun,3\n2024-01-03,rain,5\n2024-01-04,sun,5\n",
            "refused, line 4, column date: 2024-01-02 comes twice, first as '2024-01-02'; say --id if a column tells series apart, or --agg mean, sum, first or last",
        ),
    ]);
}

#[test]
fn an_id_is_asked_for() {
    check_with(
        &[(
            "one series each",
            "k,y\na,1\nb,5\na,2\nb,7\n",
            "a: 1 [1.0, 2.0] -> 3 | 4; b: 1 [5.0, 7.0] -> 3 | 4",
        )],
        ReadOptions::new().ids(["k"]),
    );
    check_with(
        &[("no such column", "k,y\na,1\nb,5\n", "refused: there is no column z; columns of numbers: y")],
        ReadOptions::new().ids(["z"]),
    );
    check_with(
        &[(
            "a missing id",
            "k,y\na,1\n,5\n",
            "refused, line 3, column k: the id is missing; fill it in, or remove the line",
        )],
        ReadOptions::new().ids(["k"]),
    );
}

#[test]
fn rows_that_are_series_are_found() {
    check(&[
        (
            "M4",
            "\"V1\",\"V2\",\"V3\",\"V4\",\"V5\",\"V6\",\"V7\",\"V8\"\n\"H1\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\"\n\"H2\",\"9\",\"8\",\"7\",,,,\n\"H3\",\"9\",\"8\"\n",
            "H1: 1 [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0] -> 8 | 9; H2: 1 [9.0, 8.0, 7.0] -> 4 | 5; H3: 1 [9.0, 8.0] -> 3 | 4",
        ),
        (
            "months",
            "shop,2023-11,2023-12,2024-01\nn,1,2,3\ns,,5,6\n",
            "n: 2023-11 [1.0, 2.0, 3.0] -> 2024-02 | 2024-03; s: 2023-12 [5.0, 6.0] -> 2024-02 | 2024-03",
        ),
        (
            "newest first",
            "shop,2024-01,2023-12,2023-11\nn,3,2,1\n",
            "n: 2023-11 [1.0, 2.0, 3.0] -> 2024-02 | 2024-03",
        ),
        (
            "years",
            "country,2021,2022,2023\nA,1,2,3\nB,4,5,6.5\n",
            "A: 2021 [1.0, 2.0, 3.0] -> 2024 | 2025; B: 2021 [4.0, 5.0, 6.5] -> 2024 | 2025",
        ),
        (
            "a gap in the names",
            "shop,2023-09,2023-10,2023-12,2024-01\nn,1,2,3,4\n",
            "refused, line 1: the names go on with '2023-12' where 2023-11 is next; correct them",
        ),
        (
            "a gap in a series",
            "shop,2023-11,2023-12,2024-01\nn,1,,3\n",
            "refused, line 2, column 2023-12: the cell is missing; fill in a number, or ask for a fill: --fill previous, linear or zero",
        ),
        (
            "an id twice",
            "shop,2023-11,2023-12,2024-01\nn,1,2,3\nn,1,2,3\n",
            "refused, line 3, column shop: the id 'n' comes twice; say which columns with --id",
        ),
    ]);
    let data = read("name,code,2021,2022,2023\nA,x,1,2,3\nB,x,4,5,6.5\n").unwrap();
    assert_eq!(data.statics(), ["code"]);
    check_with(
        &[("asked for", "a,1,2\nb,3,4\n", "a: 1 [1.0, 2.0] -> 3 | 4; b: 1 [3.0, 4.0] -> 3 | 4")],
        ReadOptions::new().layout(Layout::Rows),
    );
    check_with(
        &[(
            "long, though names are dates",
            "shop,2023-11,2023-12,2024-01\nn,1,2,3\ns,3,5,6\n",
            "1 [3.0, 6.0] -> 3 | 4",
        )],
        ReadOptions::new().layout(Layout::Long),
    );
}

#[test]
fn columns_can_be_series() {
    let table = "date,n,s\n2024-01-01,1,5\n2024-01-02,2,\n2024-01-03,3,7\n";
    let wide = ReadOptions::new().layout(Layout::Wide).fill(gatefold_series::Fill::Linear);
    check_with(
        &[(
            "an id",
            PANEL,
            "refused: --layout wide, but unique_id tells several series apart; leave out the layout or the id",
        )],
        wide.clone(),
    );
    check_with(
        &[(
            "wide",
            table,
            "n: 2024-01-01 [1.0, 2.0, 3.0] -> 2024-01-04 | 2024-01-05; s: 2024-01-01 [5.0, 6.0, 7.0] -> 2024-01-04 | 2024-01-05",
        )],
        wide,
    );
}

#[test]
fn covariates_reach_as_far_as_they_are_known() {
    let table = "day,sales,weather,price\n2024-01-01,3,7,1\n2024-01-02,4,8,1\n2024-01-03,5,9,2\n2024-01-04,,,2\n2024-01-05,,,1\n";
    // Rows without sales are the future; the price is known there, and the weather is not.
    let found = read_with(table, ReadOptions::new().targets(["sales"])).unwrap();
    assert_eq!(found.future_covariates(), ["price"]);
    assert_eq!(found.past_covariates(), [""; 0]);
    assert_eq!(reported(&found, "ahead"), "price: known ahead");
    assert_eq!(reported(&found, "beside"), "weather: not used; see --past, --future");
    let options = || ReadOptions::new().targets(["sales"]).past_covariates(["weather"]);
    let asked = read_with(table, options().future_covariates(["price"])).unwrap();
    let covariates = asked.covariates_of(0);
    assert_eq!(covariates.past[0][..3], [7.0, 8.0, 9.0]);
    assert_eq!(covariates.future, [[1.0, 1.0, 2.0, 2.0, 1.0]]);
    let past_alone = read_with(table, options()).unwrap();
    assert!(past_alone.future_covariates().is_empty());
    let error =
        summary(read_with(table, ReadOptions::new().targets(["sales"]).future_covariates(["weather"])));
    assert!(error.starts_with("refused, line 5, column weather: the cell is missing (2 in all)"), "{error}");
    let error = summary(read_with(table, options().future_covariates(["weather"])));
    assert_eq!(
        error,
        "refused: the column 'weather' is asked for twice, as a covariate and as something else; leave one out"
    );
}

#[test]
fn targets_and_covariates() {
    let table = "date,a,note,b,c\n2024-01-01,1,x,5,9\n2024-01-02,2,y,7,9\n2024-01-03,4,z,,9\n";
    let data = read_with(table, ReadOptions::new().targets(["a"])).unwrap();
    assert_eq!(data.covariates(), ["b"]); // c is constant, note is text
    assert!(data.series()[0].covariate(0)[2].is_nan());
    assert_eq!(data.series()[0].covariate(0)[..2], [5.0, 7.0]);
    assert_eq!(reported(&data, "target"), "a");
    assert_eq!(reported(&data, "left out"), "note: not numbers");
    assert_eq!(read("x,\"a \"\"b\"\"\"\nu,1\nv,2\n").unwrap().targets(), ["a \"b\""]);
    let two = read_with("date,a,b\n2024-01-01,1,5\n2024-01-02,2,7\n", ReadOptions::new().targets(["a", "b"]))
        .unwrap();
    assert_eq!(two.targets(), ["a", "b"]);
    assert_eq!(two.series()[0].target(1), [5.0, 7.0]);
    let error = summary(read_with(table, ReadOptions::new().targets(["a"]).future_covariates(["b"])));
    assert_eq!(
        error,
        "refused, line 4, column b: the cell is missing (the only one); fill in a number, or ask for a fill: --fill previous, linear or zero"
    );
    let error = summary(read_with(table, ReadOptions::new().targets(["note"])));
    assert_eq!(error, "refused: column note holds text, such as 'x'; columns of numbers: a, b, c");
    assert_eq!(
        reported(&read("a,b,c\n1,5,7\n2,9,7\n4,1,7\n").unwrap(), "target"),
        "b: the last column of numbers"
    );
}
