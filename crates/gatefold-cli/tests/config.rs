//! Configuration files, and names with commas in them.

use crate::support::Folder;

#[test]
fn a_comma_in_a_name_is_no_end_of_it() {
    let place = Folder::new();
    let rows: String = (0..40).map(|n| format!("{},{},{}\n", 2000 + n, n % 5, n % 7)).collect();
    place.write("t.csv", &format!("year,\"sales,net\",other\n{rows}"));
    place
        .succeed(r"forecast t.csv --model naive,mean --horizon 2 --device cpu --target sales\,net --out one");
    assert!(place.read("one/run.toml").contains("\"sales,net\""));
    place.succeed("forecast t.csv --config one/run.toml --device cpu --out two");
    place.assert_same("one", "two", &["forecast.csv", "test.csv"]);
}

#[test]
fn an_option_that_a_command_does_not_have_is_named_with_its_file() {
    let place = Folder::new();
    place.write("run.toml", "horizon = 2\nnosuch = 3\n");
    let refused = place.fail(1, "forecast table.csv --config run.toml");
    assert_eq!(
        refused,
        "error: run.toml: forecast has no option 'nosuch'; gatefold forecast --help lists them"
    );
}
