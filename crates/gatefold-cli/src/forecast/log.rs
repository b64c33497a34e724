//! Every update of every network: log.csv, and TensorBoard's files.

use crate::failure::Failure;
use gatefold_forecast::EventWriter;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) const LOG: &str = "log.csv";
const HEAD: &str = "model,stage,network,update,loss,learning_rate,validation,seconds";

/// One update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) model: String,
    /// `trial-with-ids`, `trial-without-ids`, `validation`, `test`, `future` or `window-N`.
    pub(crate) stage: String,
    /// From 1.
    pub(crate) network: usize,
    /// From 1.
    pub(crate) update: u64,
    /// The mean loss of its batch, before it.
    pub(crate) loss: f32,
    pub(crate) learning_rate: f32,
    /// The error on the validation part, after the updates that look at it.
    pub(crate) validation: Option<f64>,
    /// Since the run began, without pauses between interruption and resumption.
    pub(crate) seconds: f64,
}

impl Row {
    fn curve(&self) -> (&str, &str, usize) {
        (&self.model, &self.stage, self.network)
    }

    /// Whether it is of a network that only helped to choose the options of others.
    pub(crate) fn is_trial(&self) -> bool {
        self.stage.starts_with("trial-")
    }

    fn text(&self) -> String {
        let validation = self.validation.map_or_else(String::new, |error| error.to_string());
        let Row { model, stage, network, update, loss, learning_rate, seconds, .. } = self;
        format!("{model},{stage},{network},{update},{loss},{learning_rate},{validation},{seconds:.3}\n")
    }

    fn parse(line: &str) -> Option<Row> {
        let cells: Vec<&str> = line.split(',').collect();
        let &[model, stage, network, update, loss, learning_rate, validation, seconds] = cells.as_slice()
        else {
            return None;
        };
        Some(Row {
            model: model.into(),
            stage: stage.into(),
            network: network.parse().ok()?,
            update: update.parse().ok()?,
            loss: loss.parse().ok()?,
            learning_rate: learning_rate.parse().ok()?,
            validation: if validation.is_empty() { None } else { Some(validation.parse().ok()?) },
            seconds: seconds.parse().ok()?,
        })
    }
}

/// The rows of a log.
///
/// # Errors
/// When the file cannot be read, or is no log.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>, Failure> {
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(refuse(format!("expected the columns {HEAD}")));
    }
    let parsed = lines.enumerate().map(|(at, line)| {
        Row::parse(line).ok_or_else(|| refuse(format!("line {} is no row of a log", at + 2)))
    });
    parsed.collect()
}

/// Model, stage and network of a curve.
type Curve = (String, String, usize);

/// The files of one run that grow with it.
pub(crate) struct Log {
    path: PathBuf,
    csv: BufWriter<File>,
    events: Option<PathBuf>,
    /// TensorBoard's file of the curve that grows.
    open: Option<(Curve, EventWriter<BufWriter<File>>)>,
    begun: Instant,
    /// Seconds of an interrupted run before this one.
    before: f64,
    /// The first failure to write, which ends the run.
    failure: Option<io::Error>,
}

impl Log {
    /// Begins log.csv in a folder, or continues it, and TensorBoard's files below `events`.
    pub(crate) fn begin(folder: &Path, resume: bool, events: Option<&Path>) -> Result<Log, Failure> {
        let path = folder.join(LOG);
        let rows = if resume && path.exists() { read(&path)? } else { Vec::new() };
        let before = rows.last().map_or(0.0, |row| row.seconds);
        let csv =
            written(&path, &rows).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        let events = events.map(Path::to_path_buf);
        Ok(Log { path, csv, events, open: None, begun: Instant::now(), before, failure: None })
    }

    /// Drops rows that a power cut left after the last checkpoint: those of this network past `update`, and all that follow.
    pub(crate) fn continue_from(
        &mut self,
        model: &str,
        stage: &str,
        network: usize,
        update: u64,
    ) -> Result<(), Failure> {
        self.csv.flush().map_err(|error| self.failed(&error))?;
        let mut rows = read(&self.path)?;
        let later = |row: &Row| row.curve() == (model, stage, network) && row.update > update;
        if let Some(first) = rows.iter().position(later) {
            rows.truncate(first);
            self.csv = written(&self.path, &rows).map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }

    /// Adds an update; false when it cannot be written.
    pub(crate) fn add(&mut self, row: &Row) -> bool {
        let result = self.csv.write_all(row.text().as_bytes()).and_then(|()| self.add_event(row));
        if let Err(error) = result {
            self.failure.get_or_insert(error);
        }
        self.failure.is_none()
    }

    fn add_event(&mut self, row: &Row) -> io::Result<()> {
        let Some(folder) = &self.events else { return Ok(()) };
        let (model, stage, network) = row.curve();
        let same = |open: &Curve| (open.0.as_str(), open.1.as_str(), open.2) == row.curve();
        let (_, writer) = match self.open.take() {
            Some(open) if same(&open.0) => self.open.insert(open),
            last => {
                if let Some((_, mut last)) = last {
                    last.flush()?;
                }
                let (writer, _) = EventWriter::create(&folder.join(format!("{stage}-{model}-{network}")))?;
                self.open.insert(((model.to_owned(), stage.to_owned(), network), writer))
            }
        };
        writer.scalar_now(row.update, "loss", row.loss)?;
        writer.scalar_now(row.update, "learning_rate", row.learning_rate)?;
        if let Some(error) = row.validation {
            writer.scalar_now(row.update, "validation", error as f32)?;
            writer.flush()?; // TensorBoard shows the curve while it grows
        }
        Ok(())
    }

    /// Gives everything to the files.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let mut result = self.failure.take().map_or(Ok(()), Err).and_then(|()| self.csv.flush());
        if let Some((_, mut writer)) = self.open.take() {
            result = result.and_then(|()| writer.flush());
        }
        result.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let events = self.events.as_ref().map_or_else(String::new, |path| format!(" or {}", path.display()));
        Failure::failed(format!("{}{events}: cannot write the log: {error}", self.path.display()))
    }
}

fn written(path: &Path, rows: &[Row]) -> io::Result<BufWriter<File>> {
    let mut csv = BufWriter::new(File::create(path)?);
    writeln!(csv, "{HEAD}")?;
    rows.iter().try_for_each(|row| csv.write_all(row.text().as_bytes()))?;
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(network: usize, update: u64) -> Row {
        Row {
            model: "network".into(),
            stage: "test".into(),
            network,
            update,
            loss: 0.1 * update as f32,
            learning_rate: 3e-3,
            validation: update.is_multiple_of(2).then_some(0.25),
            seconds: update as f64,
        }
    }

    #[test]
    fn a_resumed_log_goes_on_from_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::begin(folder.path(), false, None).unwrap();
        let all = [row(1, 1), row(1, 2), row(2, 1), row(2, 2), row(2, 3)];
        assert!(all.iter().all(|row| log.add(row)));
        log.finish().unwrap();
        assert_eq!(read(&folder.path().join(LOG)).unwrap(), all);
        let mut log = Log::begin(folder.path(), true, None).unwrap();
        assert!(log.seconds() >= 3.0);
        log.continue_from("network", "test", 2, 1).unwrap();
        assert!(log.add(&row(2, 2)));
        log.finish().unwrap();
        assert_eq!(read(&folder.path().join(LOG)).unwrap(), all[..4]);
        Log::begin(folder.path(), false, None).unwrap().finish().unwrap();
        assert_eq!(read(&folder.path().join(LOG)).unwrap(), []);
        fs::write(folder.path().join(LOG), "a,b\n1,2\n").unwrap();
        assert!(read(&folder.path().join(LOG)).unwrap_err().to_string().contains("expected the columns"));
    }

    #[test]
    fn a_log_that_cannot_be_written_ends_the_run() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut log = Log::begin(folder.path(), false, Some(&folder.path().join("file"))).unwrap();
        assert!(!log.add(&row(1, 1)));
        assert!(log.finish().unwrap_err().to_string().contains("cannot write the log"));
    }
}
