//! `gatefold gradients`: the table, the file and the plot of a run's network, and refusals.

use crate::support::Folder;
use crate::tasks::{bursts, gappy, slopes};
use crate::texts::{denials, numbers, story};
use std::collections::HashMap;

#[test]
fn a_network_of_a_run_shows_its_gradients() {
    let folder = Folder::new();
    // The logistic map, of which a network learns more than the regression that it starts from.
    let mut chaos = String::from("step,value\n");
    let mut value = 0.3f64;
    for step in 0..300 {
        chaos += &format!("{step},{value:.4}\n");
        value = 3.8 * value * (1.0 - value);
    }
    folder.write("chaos.csv", &chaos);
    let network = "--hidden 6 --input 12 --batch 16 --updates 60 --lr 0.02 --device cpu --quiet --out run";
    let kind = "--model network --cell lstm --layers 2 --ensemble 2";
    folder.succeed(&format!("forecast chaos.csv --target value --horizon 1 {kind} {network}"));
    let printed = folder.succeed(
        "gradients run chaos.csv --windows 7 --member 2 --device cpu --out flow.csv --plot flow.svg",
    );
    for text in
        ["over 7 windows", "layer 2 (lstm), 12 steps", "layer 3 (lstm), 12 steps", "i, f, g, o: per cent"]
    {
        assert!(printed.contains(text), "no \"{text}\" in {printed}");
    }
    // Two layers of twelve steps: three norms, and the two ends of four gates.
    let rows = folder.rows("flow.csv");
    assert_eq!(rows.len(), 2 * 12 * (3 + 8));
    let value = |layer: &str, step: &str, measure: &str| -> f64 {
        let mut found = rows
            .iter()
            .filter(|row| row["layer"] == layer && row["step"] == step && row["measure"] == measure);
        let value = found.next().unwrap()["value"].parse().unwrap();
        assert!(found.next().is_none());
        value
    };
    for layer in ["layer 2 (lstm)", "layer 3 (lstm)"] {
        assert!(value(layer, "12", "dL/dh") > 0.0 && value(layer, "1", "dL/dc") > 0.0);
        assert!((0.0..=1.0).contains(&value(layer, "6", "forget high")));
    }
    let plot = folder.read("flow.svg");
    assert!(plot.contains("layer 3 (lstm)") && plot.contains("forget, high end"));

    let error = folder.fail(1, "gradients run chaos.csv --member 3 --device cpu");
    assert!(error.contains("there is no network 3; found 2"), "{error}");
    let error = folder.fail(2, "gradients run chaos.csv --decimal , --device cpu");
    assert!(error.contains("remembers how its table is read"), "{error}");
    let error = folder.fail(2, "gradients run chaos.csv --plot flow.pdf");
    assert!(error.contains("expected a file that ends in .svg or .png"), "{error}");
    folder.succeed("forecast table.csv --model linear --horizon 3 --device cpu --quiet --out linear");
    let error = folder.fail(1, "gradients linear table.csv --device cpu");
    assert!(error.contains("the run chose linear, and kept no recurrent network"), "{error}");
}

/// Trains a network of a task with a few updates, looks at its gradients, and returns what was printed.
fn trained(folder: &Folder, task: &str, table: &str, content: &str, options: &str) -> String {
    folder.write(table, content);
    let run = "--quick --updates 20 --device cpu --quiet";
    folder.succeed(&format!("{task} {table} {options} {run} --out {task}"));
    let out = format!("--windows 1000 --device cpu --out {task}.csv --plot {task}.svg");
    let printed = folder.succeed(&format!("gradients {task} {table} {out}"));
    assert!(folder.read(&format!("{task}.svg")).contains("layer"), "{task}");
    let rows = folder.rows(&format!("{task}.csv"));
    let norms = || rows.iter().filter(|row| row["measure"] == "dL/dh");
    let value = |row: &HashMap<String, String>| row["value"].parse::<f64>().unwrap();
    assert!(norms().all(|row| value(row).is_finite()) && norms().any(|row| value(row) > 0.0), "{task}");
    printed
}

/// The loss that was printed, and the rows that it is over.
fn loss(printed: &str) -> (f64, String) {
    let line = printed.lines().find_map(|line| line.strip_prefix("loss      ")).unwrap();
    let (loss, rows) = line.split_once(" over ").unwrap();
    (loss.parse().unwrap(), rows.to_owned())
}

/// The loss is that of the answers which the model gives the same table, so input, truth and loss are the task's.
fn assert_loss(printed: &str, rows: &str, losses: impl ExactSizeIterator<Item = f64>) {
    let (found, over) = loss(printed);
    let count = losses.len();
    let expected = losses.sum::<f64>() / count as f64;
    // The answers have four decimals.
    assert!((found - expected).abs() < 2e-3 * expected.max(1.0), "found {found}, expected {expected}");
    assert_eq!(over, rows);
}

#[test]
fn networks_of_other_tasks_show_theirs() {
    let folder = Folder::new();
    let number = |text: &str| text.parse::<f64>().unwrap();

    let columns = "--id name --class kind --split part --ensemble 1";
    let printed = trained(&folder, "classify", "slopes.csv", &slopes(), columns);
    assert!(printed.contains("layer 0 (gru) in reverse, 12 steps"), "{printed}");
    folder.succeed("classify use classify slopes.csv --device cpu --quiet --out found.csv");
    let found = folder.rows("found.csv");
    let of = |row: &HashMap<String, String>| {
        let rises = row["name"][1..].parse::<usize>().unwrap().is_multiple_of(3);
        -number(&row[if rises { "p_rise" } else { "p_fall" }]).ln()
    };
    assert_loss(&printed, "60 sequences", found.iter().map(of));
    let few = folder.succeed("gradients classify slopes.csv --windows 7 --device cpu");
    assert_eq!(loss(&few).1, "7 sequences");

    let printed = trained(&folder, "label", "bursts.csv", &bursts(), "--id who --label state --ensemble 1");
    folder.succeed("label use label bursts.csv --device cpu --quiet --out found.csv");
    let (found, truth) = (folder.rows("found.csv"), folder.rows("bursts.csv"));
    let of = |(row, truth): (&HashMap<String, String>, &HashMap<String, String>)| {
        assert_eq!((&row["who"], &row["t"]), (&truth["who"], &truth["t"]));
        -number(&row[&format!("p_{}", truth["state"])]).ln()
    };
    assert_loss(&printed, "6 sequences", found.iter().zip(&truth).map(of));

    let columns = "--text sentence --target stars --range 1,5";
    let printed = trained(&folder, "score", "denials.csv", &denials(), columns);
    let texts: String =
        denials().lines().skip(1).map(|line| line.split('"').nth(1).unwrap().to_owned() + "\n").collect();
    folder.write("texts.txt", &texts);
    folder.succeed("score use score texts.txt --device cpu --out found.csv");
    let stars = |line: &str| number(line.rsplit_once(',').unwrap().1);
    let (found, truth) = (folder.read("found.csv"), denials());
    // From 1 to 5 stars to -1 to 1.
    let errors = found.lines().zip(truth.lines()).skip(1).map(|(a, b)| ((stars(a) - stars(b)) / 2.0).powi(2));
    assert_loss(&printed, "480 sequences", errors.collect::<Vec<_>>().into_iter());
}

#[test]
fn networks_of_texts_and_gaps_show_theirs() {
    let folder = Folder::new();
    let printed = trained(&folder, "generate", "story.txt", &story(150), "");
    assert!(printed.contains("layer 2 (lstm), 200 steps"), "{printed}");
    // Characters that are as likely as each other cost the logarithm of their number.
    assert!((1.0..4.0).contains(&loss(&printed).0), "{printed}");
    let printed = trained(&folder, "translate", "numbers.tsv", &numbers(), "--from de --to en");
    assert!(
        printed.contains("(lstm) in reverse, 3 steps") && printed.contains("(lstm), 4 steps"),
        "{printed}"
    );
    assert_eq!(loss(&printed).1, "600 sequences");
    let gaps = [0, 30, 31, 32, 70, 100, 101, 143];
    let printed = trained(&folder, "impute", "gappy.csv", &gappy(&gaps), "--ensemble 1");
    assert!(printed.contains("layer 0 (gru), 144 steps") && loss(&printed).1 == "1 sequence", "{printed}");
    let words = "the D\nw1 N\nshe P\nw2 V\n\n".repeat(30);
    let printed = trained(&folder, "label", "tags.conll", &words, "--words --ensemble 1");
    assert!(printed.contains("layer 2 (gru) in reverse, 4 steps"), "{printed}");

    let refused = |code: i32, arguments: &str, wanted: &str| {
        let error = folder.fail(code, &format!("gradients {arguments} --device cpu"));
        assert!(error.contains(wanted), "no '{wanted}' in {error}");
    };
    refused(2, "label tags.conll --delimiter ;", "the model reads a text");
    refused(1, "label tags.conll --member 2", "there is no network 2; found 1");
    refused(1, "label/model.safetensors tags.conll", "give the directory of the run that trained it");
    refused(1, "nowhere tags.conll", "there is no model in it; give the directory that 'gatefold forecast'");
    folder.write("untagged.conll", "the\n");
    refused(1, "label untagged.conll", "no step has a label; fill some in");
    folder.write("strange.conll", "the X\n");
    refused(1, "label strange.conll", "the model does not know the class X");
    folder.write("label/model.json", "{}");
    refused(1, "label tags.conll", "which one is meant is not clear");
    std::fs::create_dir(folder.path("bare")).unwrap();
    std::fs::copy(folder.path("generate/model.safetensors"), folder.path("bare/model.json")).unwrap();
    refused(1, "bare story.txt", "bare/model.json");
}

#[test]
fn a_network_is_drawn() {
    let folder = Folder::new();
    let printed = folder.succeed("describe --hidden 5 --layers 1 --steps 6 --device cpu --draw net.svg");
    assert!(printed.contains("drawn") && folder.read("net.svg").contains("lstm 5"), "{printed}");
    let png = folder.succeed("describe --hidden 5 --layers 1 --steps 6 --device cpu --draw net.png");
    assert!(
        png.contains("net.png") && std::fs::read(folder.path("net.png")).unwrap().starts_with(b"\x89PNG")
    );
    let error = folder.fail(2, "describe --draw net.pdf");
    assert!(error.contains("expected a file that ends in .svg or .png"), "{error}");
}
