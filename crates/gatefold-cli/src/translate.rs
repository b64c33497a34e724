//! `gatefold translate`: short texts from one language to another, learnt from pairs.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::count;
use crate::table::{Answer, FormatArguments};
use crate::task::{
    NetworkArguments, Run, RunArguments, at, fingerprint, give, load, refuse_format, required,
};
use crate::texts::{UnitChoice, lines_of, name_of, read_text, share_hidden};
use gatefold::{Device, Network};
use gatefold_tasks::{
    CellKind, Examples, Languages, Pair, PairColumns, PairParts, PairTable, TaskError, TranslateScores,
    TranslateSettings, Translation, Translator, Unit, fit_translator, nearest_translations, suited_pair_unit,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) const TASK: &str = "translate";
const TEST: &str = "test.tsv";

/// Trains a network on pairs of short texts, such as a language and another one, and measures its translations of sources
/// that it has not seen: exact matches, BLEU and chrF, beside those of the nearest known source, and of copying.
///
/// The table has a pair on each line, with tabs between the cells. Repeated pairs are left out, and no source of the test
/// is in training. Writes the network, test.tsv, metrics.json and log.csv to --out. 'gatefold translate use DIR
/// [FILE]' translates the lines of a file, or of standard input.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    using: Option<Using>,
    #[command(flatten)]
    training: Training,
}

#[derive(clap::Subcommand, Debug)]
enum Using {
    /// Translate lines with a model that was trained before
    Use(UseArguments),
}

#[derive(clap::Args, Debug)]
struct UseArguments {
    /// The directory that 'gatefold translate' wrote to
    model: PathBuf,
    /// The file of texts, one on each line, or - for standard input
    #[arg(default_value = "-")]
    texts: PathBuf,
    /// Candidates of the beam search; 1 takes the likeliest unit at every step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count())]
    beam: usize,
    /// The file for the translations, one on each line [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print nothing but errors and the result
    #[arg(long, short)]
    quiet: bool,
}

#[derive(clap::Args, Debug)]
struct Training {
    /// The table of pairs: cells separated by tabs, in UTF-8, or - for standard input
    #[arg(required = true)]
    table: Option<PathBuf>,
    /// The column of sources, by its name or number [default: the first]
    #[arg(long, value_name = "COL")]
    from: Option<String>,
    /// The column of targets, by its name or number [default: the second]
    #[arg(long, value_name = "COL")]
    to: Option<String>,
    /// Whether the first line names the columns: yes or no [default: yes for names such as source or fr]
    #[arg(long, value_name = "YES|NO")]
    header: Option<Answer>,
    /// The unit to read and write in [default: word if nearly all words of new targets are known, else char]
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitChoice>,
    /// Pairs with a text of more characters are left out
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = count())]
    longest: usize,
    /// The share of inner values that training hides
    #[arg(long, value_name = "X", default_value_t = 0.3, value_parser = share_hidden)]
    dropout: f32,
    /// Candidates of the beam search
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count())]
    beam: usize,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    run: RunArguments,
}

/// Every option that changes the result.
#[derive(Serialize)]
struct Options<'a> {
    columns: &'a PairColumns,
    unit: Unit,
    longest: usize,
    dropout: f32,
    network: &'a NetworkArguments,
}

/// Everything that a translator needs besides its network.
#[derive(Serialize, Deserialize)]
struct TranslatorData {
    #[serde(flatten)]
    languages: Languages,
    /// The columns of the table; models of older versions took the first two.
    #[serde(default)]
    columns: PairColumns,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.using {
        Some(Using::Use(arguments)) => use_model(&arguments),
        None => train(&arguments.training),
    }
}

fn train(arguments: &Training) -> Result<(), Failure> {
    let path = required(&arguments.table);
    let network = &arguments.network;
    let place = |error: TaskError| Failure::failed(format!("{}: {error}", name_of(path)));
    let text = read_text(path)?;
    let columns = PairColumns {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        header: arguments.header.map(|answer| answer == Answer::Yes),
    };
    let table = PairTable::read(&text, &columns).map_err(place)?;
    let parts = PairParts::new(&table.pairs, arguments.longest, network.seed).map_err(place)?;
    let (unit, reason) = match arguments.unit {
        Some(unit) => (unit.into(), "as asked for".into()),
        None => suited_pair_unit(&parts),
    };
    let languages = Languages::new(&parts.training, unit);
    // Eighty looks at each pair, within limits; a network has learnt few pairs by heart long before.
    let usual = (80 * parts.training.len() as u64 / 64).clamp(600, 6000);
    let settings = TranslateSettings {
        recurrent: network.recurrent_of(CellKind::Lstm, if network.quick { 32 } else { 128 }, 1),
        fit: network.settings(usual, 40),
        dropout: arguments.dropout,
    };
    let (longest, dropout) = (arguments.longest, arguments.dropout);
    let options = Options { columns: &columns, unit, longest, dropout, network };
    let mut run = Run::begin(TASK, &arguments.run, &options, &fingerprint([&text]))?;
    describe(&run, path, &table, &parts, arguments.longest);
    let [source, target] = languages.vocabularies();
    run.report.line(format!("unit      {unit}; {reason}"));
    run.report.line(format!(
        "known     {} {unit}s of sources, {} of targets",
        source.symbols().len(),
        target.symbols().len()
    ));
    run.report.line(format!(
        "network   {} layer(s) of {} {} units, encoder and decoder; {} updates",
        settings.recurrent.layers, settings.recurrent.hidden, settings.recurrent.cell, settings.fit.updates
    ));
    run.report.line(format!("device    {}\n", run.device.summary()));
    let fitted = {
        let mut watching = run.watch(&settings.fit, (0, 1), "validation loss");
        fit_translator(&run.device, &parts, &languages, &settings, &mut watching)
    }
    .map_err(|error| run.failure(path, error))?;
    run.log(&fitted);
    let translator = Translator { network: fitted.network, languages };
    let test = evaluate(&run, &translator, &parts, &settings, arguments.beam)?;
    let metrics = json!({
        "task": TASK,
        "unit": unit,
        "pairs": {
            "training": parts.training.len(),
            "validation": parts.validation.len(),
            "test": parts.test.len(),
            "repeated": parts.repeated,
            "long": parts.long,
            "empty": table.empty,
        },
        "settings": settings,
        "device": run.device.summary(),
        "bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp",
        "chrf": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no",
        "test": test,
    });
    let data = TranslatorData { languages: translator.languages.clone(), columns };
    run.finish(&[&translator.network], &data, &metrics, &[TEST])
}

fn describe(run: &Run, path: &Path, table: &PairTable, parts: &PairParts, longest: usize) {
    let [from, to] = &table.columns;
    let header = if table.header { "the first line names the columns" } else { "no line names the columns" };
    run.report.line(format!("table     {}: {} pairs; {header}", name_of(path), table.pairs.len()));
    run.report.line(format!("columns   from {from} to {to}"));
    run.report.line(format!(
        "left out  {} repeated pairs, {} with an empty cell, {} with more than {longest} characters",
        parts.repeated, table.empty, parts.long
    ));
    run.report.line(format!(
        "parts     train {}, validation {}, test {}; no source is in two of them",
        parts.training.len(),
        parts.validation.len(),
        parts.test.len()
    ));
}

/// Translates the test, prints and writes the measures, and returns them.
fn evaluate(
    run: &Run,
    translator: &Translator,
    parts: &PairParts,
    settings: &TranslateSettings,
    beam: usize,
) -> Result<Value, Failure> {
    let sources: Vec<String> = parts.test.iter().map(|pair| pair.source.clone()).collect();
    let texts = |found: &[Translation]| found.iter().map(|one| one.text.clone()).collect::<Vec<String>>();
    let nats =
        |found: &[Translation]| found.iter().map(|one| one.log_probability).sum::<f64>() / found.len() as f64;
    let cell = settings.recurrent.cell;
    let greedy = translator.translate(&sources, 1)?;
    let mut rows = vec![(format!("{cell}, greedy"), texts(&greedy), Some(nats(&greedy)))];
    if beam > 1 {
        let found = translator.translate(&sources, beam)?;
        rows.push((format!("{cell}, beam of {beam}"), texts(&found), Some(nats(&found))));
    }
    let best = rows[rows.len() - 1].1.clone();
    rows.push(("nearest source".into(), nearest_translations(&parts.training, &sources), None));
    rows.push(("copied source".into(), sources, None));
    run.report.line(format!("\nOn {} pairs that were not trained on:\n", parts.test.len()));
    run.report.line(format!("{:<20}{:>10}{:>8}{:>8}{:>16}", "", "exact %", "BLEU", "chrF", "log-likelihood"));
    let mut test = Vec::new();
    for (name, found, nats) in rows {
        let scores = TranslateScores::new(&found, &parts.test);
        let TranslateScores { exact, bleu, chrf } = scores;
        let shown = nats.map_or_else(String::new, |nats| format!("{nats:.2}"));
        run.report.line(format!("{name:<20}{exact:>10.1}{bleu:>8.1}{chrf:>8.1}{shown:>16}"));
        test.push(
            json!({ "name": name, "exact": exact, "bleu": bleu, "chrf": chrf, "log_likelihood": nats }),
        );
    }
    run.report.line("");
    for (Pair { source, target }, found) in parts.test.iter().zip(&best).take(6) {
        let right = if found == target { "" } else { &format!(", not {target}") };
        run.report.line(format!("{source} -> {found}{right}"));
    }
    let table = parts
        .test
        .iter()
        .zip(&best)
        .map(|(pair, found)| format!("{}\t{}\t{found}\n", pair.source, pair.target));
    run.save(TEST, format!("source\ttarget\ttranslation\n{}", table.collect::<String>()))?;
    Ok(test.into())
}

/// The networks of a directory, and examples of a table for them.
pub(crate) fn examples(
    device: &Device,
    model: &Path,
    table: &Path,
    format: &FormatArguments,
    count: usize,
) -> Result<(Vec<Network>, Examples), Failure> {
    refuse_format(format)?;
    let (mut networks, TranslatorData { languages, columns }): (Vec<Network>, _) = load(device, model, TASK)?;
    let pairs = PairTable::read(&read_text(table)?, &columns).map_err(|error| at(table, error))?.pairs;
    let translator = Translator { network: networks.remove(0), languages };
    let examples = translator.examples(&pairs, count).map_err(|error| at(table, error))?;
    Ok((vec![translator.network], examples))
}

fn use_model(arguments: &UseArguments) -> Result<(), Failure> {
    let texts = lines_of(&read_text(&arguments.texts)?);
    if texts.is_empty() {
        let problem = "there are no lines; expected a text on each";
        return Err(Failure::failed(format!("{}: {problem}", name_of(&arguments.texts))));
    }
    if let Some(line) = texts.iter().position(|text| text.contains('\t')) {
        let problem = format!("text {} has a tab; expected one text on each line, not a table", line + 1);
        return Err(Failure::failed(format!("{}: {problem}", name_of(&arguments.texts))));
    }
    let device = arguments.compute.open(arguments.quiet)?;
    let (mut networks, TranslatorData { languages, .. }) = load(&device, &arguments.model, TASK)?;
    let translator = Translator { network: networks.remove(0), languages };
    let found = translator.translate(&texts, arguments.beam)?;
    give(arguments.out.as_deref(), &found.iter().map(|one| one.text.clone() + "\n").collect::<String>())
}
