//! `gatefold impute`, `classify` and `label`, from end to end as a user runs them.

#[cfg(unix)]
use crate::forecast::interrupt_at;
use crate::support::Folder;
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;

/// 60 sequences of 5 to 12 steps: those that rise and those that fall, from levels that tell nothing.
pub(crate) fn slopes() -> String {
    let mut text = String::from("part,name,t,x,y,kind\n");
    for sequence in 0..60 {
        let kind = if sequence % 3 == 0 { "rise" } else { "fall" };
        let part = if sequence < 40 { "train" } else { "test" };
        for t in 0..5 + sequence % 8 {
            let slope = if kind == "rise" { 1.0 } else { -1.0 };
            let x = f64::from(sequence * 7 % 10) / 5.0 + slope * f64::from(t);
            let y = f64::from((sequence * 31 + t * 17) % 11) / 11.0;
            writeln!(text, "{part},s{sequence},{t},{x:.3},{y:.3},{kind}").unwrap();
        }
    }
    text
}

/// Three signals whose label says whether they were high within the last two steps or will be within the next two.
pub(crate) fn bursts() -> String {
    let mut text = String::from("who,t,x,state\n");
    for who in ["a", "b", "c", "d", "e", "f"] {
        let shift = who.as_bytes()[0] as usize;
        let high = |t: usize| (t + 3 * shift) % 23 < 4;
        for t in 0..120usize {
            let near = (t.saturating_sub(2)..=t + 2).any(high);
            let x = if high(t) { 1.0 } else { 0.0 } + ((t * 37 + shift) % 7) as f64 / 70.0;
            writeln!(text, "{who},{t},{x:.3},{}", if near { "active" } else { "idle" }).unwrap();
        }
    }
    text
}

/// A rhythm of 12 with a trend; every cell of `gaps` is empty.
pub(crate) fn gappy(gaps: &[usize]) -> String {
    let mut text = String::from("month;note;sales;stock\n");
    for t in 0..144usize {
        let value = 50.0 + 0.1 * t as f64 + 10.0 * (t as f64 * std::f64::consts::TAU / 12.0).sin();
        let rough = (t * t * 7919 % 100) as f64 / 100.0;
        let cell =
            if gaps.contains(&t) { String::new() } else { format!("{:.2}", value + rough).replace('.', ",") };
        let stock = format!("{:.1}", 100.0 - value).replace('.', ",");
        writeln!(text, "{}-{:02};a b;{cell};{stock}", 2000 + t / 12, t % 12 + 1).unwrap();
    }
    text
}

const CLASSIFY: &str =
    "classify slopes.csv --id name --class kind --device cpu --hidden 8 --updates 300 --ensemble 2";

fn assert_narrow(printed: &str) {
    let wide: Vec<&str> = printed.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "{wide:?}");
}

#[test]
fn classify_learns_and_its_model_classifies() {
    let place = Folder::new();
    place.write("slopes.csv", &slopes());
    let printed = place.succeed(&format!("{CLASSIFY} --split part --out o"));
    for text in
        ["60 sequences of 5 to 12 steps", "ordered by column t", "parts     train 40, test 20", "fall, rise"]
    {
        assert!(printed.contains(text), "no '{text}' in {printed}");
    }
    assert_narrow(&printed);
    let files =
        ["test.csv", "confusion.svg", "confusion.png", "metrics.json", "log.csv", "model.safetensors"];
    for name in files.into_iter().chain(["model-2.safetensors"]) {
        assert!(fs::metadata(place.path("o").join(name)).unwrap().len() > 0, "{name}");
    }
    assert!(!place.path("o/checkpoints").exists());
    let metrics = place.metrics("o");
    let accuracy = |at: usize| metrics["test"]["models"][at]["accuracy"].as_f64().unwrap();
    assert!(accuracy(0) >= 0.9, "{metrics:#}");
    assert!((accuracy(3) - 14.0 / 20.0).abs() < 1e-9, "the most frequent class is 'fall'");
    // The printed accuracy is that of test.csv.
    let rows = place.rows("o/test.csv");
    let right = rows.iter().filter(|row| row["class"] == row["predicted"]).count();
    assert!((right as f64 / 20.0 - accuracy(0)).abs() < 1e-9);
    let sum = |row: &HashMap<String, String>| {
        row["p_fall"].parse::<f64>().unwrap() + row["p_rise"].parse::<f64>().unwrap()
    };
    assert!(rows.iter().all(|row| (sum(row) - 1.0).abs() < 2e-4));

    // The model says the same of the same sequences, in another order of rows and without their classes.
    let shuffled: Vec<String> =
        slopes().lines().skip(1).map(|line| line.rsplit_once(',').unwrap().0.into()).collect();
    let rows: Vec<&str> = shuffled.iter().rev().map(String::as_str).collect();
    place.write("new.csv", &format!("part,name,t,x,y\n{}\n", rows.join("\n")));
    place.succeed("classify use o new.csv --device cpu --out new.out");
    let found: HashMap<String, String> =
        place.rows("new.out").into_iter().map(|row| (row["name"].clone(), row["p_rise"].clone())).collect();
    assert_eq!(found.len(), 60);
    for row in place.rows("o/test.csv") {
        assert_eq!(found[&row["name"]], row["p_rise"], "{}", row["name"]);
    }
    let printed = place.succeed("classify use o slopes.csv --device cpu");
    assert!(printed.starts_with("name,part,predicted,probability,p_fall,p_rise\ns0,train,"), "{printed}");
}

#[test]
fn classify_refuses_what_it_cannot_learn_from() {
    let place = Folder::new();
    let all = slopes();
    let table = |change: &dyn Fn(&str) -> String| place.write("slopes.csv", &change(&all));
    let fail = |code: i32, more: &str| place.fail(code, &format!("{CLASSIFY} --out o {more}"));
    table(&|text| text.into());
    let says =
        |message: String, wanted: &str| assert!(message.contains(wanted), "no '{wanted}' in {message}");
    says(
        place.fail(2, "classify slopes.csv --class kind"),
        "name the columns that tell sequences apart with --id",
    );
    says(
        place.fail(1, "classify slopes.csv --id name --class speaker --out o"),
        "there is no column speaker",
    );
    says(fail(1, "--resume"), "there is nothing to resume");
    says(place.fail(1, &format!("{CLASSIFY} --out o").replace("slopes", "none")), "there is no such file");
    table(&|text| text.replace("rise", "fall"));
    says(fail(1, ""), "every sequence has the class fall; expected at least two in column kind");
    table(&|text| text.replacen("fall", "rise", 1));
    says(fail(1, ""), "'gatefold label' takes classes that change within a sequence");
    table(&|text| text.replace(",4,", ",3,"));
    says(fail(1, "--step t"), "the same step as in a row before of s0");
    table(&|text| text.replacen(",rise", ",", 1));
    says(fail(1, ""), "the sequence s0 has no class");
    table(&|text| text.replacen("0.000", "", 1));
    says(fail(1, ""), "fill the gaps with 'gatefold impute'");
    table(&|text| text.replacen("0.000", "a lot", 1));
    says(fail(1, ""), "'a lot' is not a number");
    table(&|text| text.replacen("0.000", "inf", 1));
    says(fail(1, ""), "line 2, column x");
    table(&|text| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.swap(2, 20);
        lines.join("\n") + "\n"
    });
    says(fail(1, ""), "are not together; sort the table, or name the column that orders them with --step");
    table(&|text| text.replace("train", "practice"));
    says(fail(1, "--split part"), "expected train, validation or test, found 'practice'");
    table(&|text| text.replace("test,", "train,"));
    says(fail(1, "--split part"), "60 sequences for training and 0 for the test");
    assert!(!place.path("o").exists(), "nothing is written before the table is understood");

    // A model refuses classes and columns that it does not know, and tasks that are not its own.
    table(&|text| text.into());
    place.succeed(&format!("{CLASSIFY} --quick --quiet --out o"));
    place.write("new.csv", &all.replace("rise", "jump"));
    says(
        place.fail(1, "classify use o new.csv --device cpu"),
        "the model does not know the class jump; it knows fall, rise",
    );
    place.write("new.csv", &all.replace(",x,", ",z,"));
    says(place.fail(1, "classify use o new.csv --device cpu"), "there is no column x");
    says(place.fail(1, "label use o new.csv --device cpu"), "a model of classify, not of label");
    says(place.fail(1, "classify use nowhere new.csv --device cpu"), "there is no model in it");
}

#[cfg(unix)]
#[test]
fn an_interrupted_task_is_resumed_to_the_same_result() {
    let place = Folder::new();
    place.write("slopes.csv", &slopes());
    let options = "classify slopes.csv --id name --class kind --device cpu --threads 1 --hidden 8 --ensemble 2 --updates 2000";
    place.succeed(&format!("{options} --out whole"));
    let mut arguments = format!("{options} --out parts");
    for shown in ["network 1/2 100/", "network 2/2 "] {
        let (code, text) = interrupt_at(&place, &arguments, shown);
        assert_eq!(code, Some(130), "{text}");
        assert!(
            text.contains(&format!("continue with\n  gatefold {options} --out parts --resume")),
            "{text}"
        );
        assert!(!place.path("parts/metrics.json").exists(), "it did not end");
        arguments = format!("{options} --out parts --resume");
    }
    let other = place.fail(2, &format!("{} --lr 0.1", arguments.replace("--hidden 8", "--hidden 7")));
    assert!(other.contains("was") && other.contains("in the run to resume"), "{other}");
    place.succeed(&arguments);
    for name in
        ["model.safetensors", "model-2.safetensors", "test.csv", "log.csv", "metrics.json", "confusion.svg"]
    {
        let read = |folder: &str| fs::read(place.path(folder).join(name)).unwrap();
        assert!(read("whole") == read("parts"), "{name} differs");
    }
}

#[test]
fn label_learns_from_both_sides_and_its_model_labels() {
    let place = Folder::new();
    place.write("bursts.csv", &bursts());
    let options = "--device cpu --hidden 12 --updates 300 --window 60 --ensemble 2";
    let printed = place.succeed(&format!("label bursts.csv --id who --label state {options} --out o"));
    assert!(printed.contains("parts     train 5 (600 steps), test 1 (120 steps)"), "{printed}");
    assert_narrow(&printed);
    for name in ["test.csv", "confusion.svg", "labels.svg", "labels.png", "metrics.json", "log.csv"] {
        assert!(fs::metadata(place.path("o").join(name)).unwrap().len() > 0, "{name}");
    }
    let metrics = place.metrics("o");
    let accuracy = |at: usize| metrics["test"]["models"][at]["accuracy"].as_f64().unwrap();
    assert!(accuracy(0) >= 0.95 && accuracy(0) > accuracy(2), "{metrics:#}");
    let test = place.rows("o/test.csv");
    assert_eq!(test.len(), 120);
    place.succeed("label use o bursts.csv --device cpu --out all.csv");
    let all = place.rows("all.csv");
    assert_eq!(all.len(), 720);
    let same = |row: &&HashMap<String, String>| row["who"] == test[0]["who"];
    for (used, tested) in all.iter().filter(same).zip(&test) {
        assert_eq!((&used["t"], &used["p_active"]), (&tested["t"], &tested["p_active"]));
    }

    // Steps without a label are read, but neither learnt nor counted.
    let who = &test[0]["who"];
    let blank = |line: &str| {
        let (rest, _) = line.rsplit_once(',').unwrap();
        if line.starts_with(&format!("{who},1")) { format!("{rest},\n") } else { format!("{line}\n") }
    };
    place.write("blank.csv", &bursts().lines().map(blank).collect::<String>());
    let printed = place.succeed(
        &format!("label blank.csv --id who --label state {options} --updates 20 --out b")
            .replace("--updates 300 ", ""),
    );
    assert!(printed.contains("31 steps have no label"), "{printed}");
    assert_eq!(place.metrics("b")["test"]["count"], 120 - 31);
    let fail = |code: i32, arguments: &str, wanted: &str| {
        let message = place.fail(code, arguments);
        assert!(message.contains(wanted), "no '{wanted}' in {message}");
    };
    fail(1, "label bursts.csv --id who --label mood", "there is no column mood");
    fail(1, "label bursts.csv --id who --label who", "column who is both an id and the class");
    place.write("one.csv", &bursts().replace("active", "idle"));
    fail(1, "label one.csv --id who --label state", "every labelled step has the class idle");
    place.write("few.csv", "t,x,state\n0,1,a\n1,2,b\n2,4,a\n");
    fail(1, "label few.csv --label state", "are too few to hold any out");
    place.write("new.csv", &bursts().replace("active", "asleep"));
    fail(1, "label use o new.csv --device cpu", "the model does not know the class asleep");
}

#[test]
fn words_are_labelled_and_unknown_ones_by_their_shape() {
    let place = Folder::new();
    // A word after 'the' is a noun, and one after 'she' a verb; every word but these two is new in each sentence.
    let mut text = String::new();
    for at in 0..120 {
        let word = |kind: usize| {
            format!("w{}", (b'a' + ((at * 7 + kind * 3) % 26) as u8) as char).repeat(1 + at % 3)
        };
        let (first, second) = (word(1), word(2));
        let sentence = match at % 2 {
            0 => format!("the D\n{first} N\nshe P\n{second} V\n"),
            _ => format!("she P\n{first} V\nthe D\n{second} N\n"),
        };
        text += &(sentence + "\n");
    }
    place.write("tags.conll", &text);
    let printed =
        place.succeed("label tags.conll --words --device cpu --hidden 12 --updates 300 --ensemble 1 --out o");
    assert!(printed.contains("120 sentences, 480 words"), "{printed}");
    let metrics = place.metrics("o");
    let accuracy = |at: usize| metrics["test"]["models"][at]["accuracy"].as_f64().unwrap();
    assert!(accuracy(0) >= 0.98, "{metrics:#}");
    assert!(accuracy(0) > accuracy(1), "the most frequent tag of a word knows nothing of the word before it");
    assert_eq!(metrics["test"]["models"][1]["name"], "most frequent tag of the word");
    place.write("new.txt", "the\nzzz\n\nshe\nzzz\n");
    let found = place.succeed("label use o new.txt --device cpu");
    let tags: Vec<&str> = found.lines().map(|line| line.split('\t').nth(1).unwrap_or("")).collect();
    assert_eq!(tags, ["D", "N", "", "P", "V", ""], "{found}");
    place.write("bad.conll", "the D\nword\n");
    assert!(place.fail(1, "label bad.conll --words").contains("line 2: expected a tag in column 2"));
    place.write("empty.conll", "\n\n");
    assert!(place.fail(1, "label empty.conll --words").contains("there are no words"));
}

#[test]
fn impute_fills_gaps_and_leaves_everything_else_as_it_was() {
    let place = Folder::new();
    let gaps: Vec<usize> = [0, 30, 31, 32, 70, 100, 101, 143].to_vec();
    place.write("gappy.csv", &gappy(&gaps));
    let options = "--device cpu --hidden 6 --updates 60 --ensemble 2";
    let printed = place.succeed(&format!("impute gappy.csv {options} --out o"));
    for text in [
        "8 cells missing in 5 gaps, the longest of 3, in sales",
        "season    12",
        "8 missing cells are filled",
    ] {
        assert!(printed.contains(text), "no '{text}' in {printed}");
    }
    assert_narrow(&printed);
    for name in ["filled.svg", "filled.png", "metrics.json", "log.csv", "model-2.safetensors", "report.html"]
    {
        assert!(fs::metadata(place.path("o").join(name)).unwrap().len() > 0, "{name}");
    }
    let whole = gappy(&[]);
    let (gappy, filled) = (gappy(&gaps), place.read("o/filled.csv"));
    let mut lines = filled.lines();
    assert_eq!(lines.next(), Some("month;note;sales;stock;sales_lower;sales_upper"));
    let number = |cell: &str| cell.replace(',', ".").parse::<f64>().unwrap();
    for ((t, line), (before, truth)) in lines.enumerate().zip(gappy.lines().zip(whole.lines()).skip(1)) {
        let cells: Vec<&str> = line.split(';').collect();
        if !gaps.contains(&t) {
            assert_eq!(line, format!("{before};;"), "a known row is as it was");
            continue;
        }
        let truth: Vec<&str> = truth.split(';').collect();
        assert_eq!((cells[0], cells[1], cells[3]), (truth[0], truth[1], truth[3]));
        let [value, low, high] = [cells[2], cells[4], cells[5]].map(number);
        assert!(low < value && value < high, "{line}");
        assert!((value - number(truth[2])).abs() < 4.0, "{line}: expected about {}", truth[2]);
    }
    let metrics = place.metrics("o");
    let mae = |at: usize| metrics["points"][0]["methods"][at]["mae"].as_f64().unwrap();
    assert!(mae(2).min(mae(3)) < mae(0), "the season is no straight line: {metrics:#}");
    // The model fills the same table in the same way.
    place.succeed("impute use o gappy.csv --device cpu --out again.csv");
    assert!(place.read("again.csv") == filled);
}

#[test]
fn impute_refuses_what_it_cannot_fill() {
    let place = Folder::new();
    let fail = |arguments: &str, wanted: &str| {
        let message = place.fail(1, &format!("impute {arguments} --device cpu --out o"));
        assert!(message.contains(wanted), "no '{wanted}' in {message}");
    };
    place.write("empty.csv", "t,x,y\n0,1,\n1,2,\n2,3,\n");
    fail("empty.csv --channel x,y", "column y holds no values");
    place.write("few.csv", "t,x\n0,1\n1,\n2,3\n");
    fail("few.csv", "only 0 values are known; expected at least 10");
    place.write("gappy.csv", &gappy(&[5]));
    fail("gappy.csv --hide 100", "100 of 143 known values cannot be hidden");
    fail("gappy.csv --channel sales,profit", "there is no column profit");
    place.write("text.csv", &gappy(&[5]).replace("2003-01;a b;", "2003-01;a b;?"));
    fail("text.csv", "line 38, column sales");
    // Times say what the order of rows does not.
    let day = |t: usize| format!("2024-{:02}-{:02}", 1 + t / 28, 1 + t % 28);
    let rows = |order: &dyn Fn(usize) -> usize| -> String {
        let row = |t: usize| {
            format!("{},{}\n", day(t), if t == 9 { String::new() } else { (t * t % 17).to_string() })
        };
        "day,x\n".to_owned() + &(0..28).map(|t| row(order(t))).collect::<String>()
    };
    place.write("mixed.csv", &rows(&|t| t * 5 % 28));
    fail("mixed.csv", "not in the order of their times; name the column of times with --step");
    place.succeed("impute mixed.csv --step day --quick --device cpu --out o");
    place.write("holes.csv", &rows(&|t| t).replace("2024-01-05,16\n", ""));
    let printed = place.succeed("impute holes.csv --quick --device cpu --out o");
    assert!(printed.contains("1 moments have no row"), "{printed}");
    let two = |t: usize| format!("{},a,{}\n{},b,{}\n", day(t), t * t % 17, day(t), 50 + t);
    place.write("two.csv", &("day,shop,x\n".to_owned() + &(0..28).map(two).collect::<String>()));
    fail("two.csv", "tell them apart with --id");
    place.write("ids.csv", "id,x\na,1\nb,\nb,2\na,3\n");
    fail("ids.csv --id id", "the rows of a are not together");
    place.write("none.csv", &("id,x\n".to_owned() + &"a,1\na,2\n".repeat(20) + "b,\nb,\n"));
    fail("none.csv --id id", "column x of b has no value at all");
}
