//! `gatefold gradients`: the table, the file and the plot of a run's network, and refusals.

use crate::support::Folder;

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
    let error = folder.fail(2, "gradients run chaos.csv --plot flow.pdf");
    assert!(error.contains("expected a file that ends in .svg or .png"), "{error}");
    folder.succeed("forecast table.csv --model linear --horizon 3 --device cpu --quiet --out linear");
    let error = folder.fail(1, "gradients linear table.csv --device cpu");
    assert!(error.contains("the run chose linear, and kept no recurrent network"), "{error}");
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
