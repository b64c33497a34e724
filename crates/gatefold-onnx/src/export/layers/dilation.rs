//! A dilated layer as a plain operator over the sequences that it interleaves: step t = q d + r of row b is step q of row
//! `r B + b`. The input is padded until d divides its steps, and what the operator makes of the padding is cut off.

use super::{Export, refuse};
use crate::OnnxError;
use crate::export::writer::Setting;
use gatefold_model::{Direction, Layer, Recurrent};

/// The input of the operator, and the numbers of the layer's own input.
pub(super) struct Interleaved {
    /// `[ceil(T/d), d B, I]`
    pub(super) x: String,
    /// `[1]`: T
    steps: String,
    /// `[1]`: B
    batch: String,
}

impl Export<'_> {
    /// The input of a dilated layer, `[T, B, I]`, by sequence.
    pub(super) fn interleaved(
        &mut self,
        layer: &Layer,
        recurrent: &Recurrent,
        x: &str,
        ragged: bool,
    ) -> Result<Interleaved, OnnxError> {
        let problem = match () {
            () if recurrent.direction != Direction::Forward => "in direction forward only",
            () if ragged => "without lengths only",
            () if self.states => "without its states only",
            () if self.config.decoder().is_some() => "in a network without a decoder only",
            () => "",
        };
        if !problem.is_empty() {
            return Err(refuse(layer, &format!("ONNX has no dilation, and it can be written {problem}")));
        }
        let reach = i64::try_from(recurrent.dilation).map_err(|error| refuse(layer, &error.to_string()))?;
        let axis = |at: i64| vec![("start", Setting::Int(at)), ("end", Setting::Int(at + 1))];
        let (first, end, d) =
            (self.writer.integers(&[0]), self.writer.integers(&[i64::MAX]), self.writer.integers(&[reach]));
        let steps = self.writer.node("Shape", &[x], axis(0));
        let batch = self.writer.node("Shape", &[x], axis(1));
        // Every d-th step: as many as the longest sequence has.
        let longest = self.writer.node("Slice", &[x, &first, &end, &first, &d], vec![]);
        let longest = self.writer.node("Shape", &[&longest], axis(0));
        let pads = self.writer.integers(&[0, 0, 0, reach - 1, 0, 0]);
        let padded = self.writer.node("Pad", &[x, &pads], vec![]);
        let all = self.writer.node("Mul", &[&longest, &d], vec![]);
        let all = self.writer.node("Slice", &[&padded, &first, &all, &first], vec![]);
        let rest = self.writer.integers(&[-1, layer.input as i64]);
        let shape = self.writer.node("Concat", &[&longest, &rest], vec![("axis", Setting::Int(0))]);
        Ok(Interleaved { x: self.writer.node("Reshape", &[&all, &shape], vec![]), steps, batch })
    }

    /// The layer's output, `[T, B, H]`, from that of the operator, `[ceil(T/d), d B, H]`.
    pub(super) fn by_time(&mut self, y: &str, interleaved: &Interleaved, hidden: usize) -> String {
        let first = self.writer.integers(&[0]);
        let (front, back) = (self.writer.integers(&[-1]), self.writer.integers(&[hidden as i64]));
        let shape = [&front, &interleaved.batch, &back].map(String::as_str);
        let shape = self.writer.node("Concat", &shape, vec![("axis", Setting::Int(0))]);
        let all = self.writer.node("Reshape", &[y, &shape], vec![]);
        self.writer.node("Slice", &[&all, &first, &interleaved.steps, &first], vec![])
    }
}
