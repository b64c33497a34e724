//! Networks that read their own output: closed loops over values, tokens one after another, decoders.

mod beam;
mod sampler;
mod tokens;

pub use beam::{Decoding, Marks};
pub use sampler::Sampler;

use crate::{Error, Network, Refusal, Sequences, Stream, block_on};
use beam::Beam;
use gatefold_model::{LayerState, NetworkConfig, States};
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3, Axis, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tokens::TokenReader;

impl Network {
    /// Reads `input [T, B, I]` and continues by itself: each output is the next input. Returns `steps` outputs,
    /// `[steps, B, O]`, beginning with the output at the last step of the input.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network whose outputs are not as wide as its inputs or that has a decoder, and for rows of
    /// different length; those of [`Network::forward`] and [`Network::stream`].
    pub fn closed_loop<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        steps: usize,
    ) -> Result<Array3<f32>, Error> {
        block_on(self.closed_loop_async(input, steps))
    }

    /// [`Network::closed_loop`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::closed_loop`].
    pub async fn closed_loop_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        steps: usize,
    ) -> Result<Array3<f32>, Error> {
        let input = input.into();
        if self.config().decoder().is_some() {
            return Err(Error::refused(
                Refusal::Decoder,
                "a decoder continues from its encoder; use Network::free_run",
            ));
        }
        check_loop(self.config(), self.config().input())?;
        check_steps(steps, input.batch(), self.config().output())?;
        if input.lengths().is_some() {
            return Err(Error::refused(
                Refusal::Loop,
                "a closed loop continues after the last step; expected rows of one length",
            ));
        }
        let mut stream = self.stream_async(input.batch()).await?;
        let read = self.forward_async(&input, None).await?;
        stream.set_states_async(&read.states).await?;
        run_loop(&mut stream, last_step(&read.output), steps).await
    }

    /// Encodes `input`, lets the decoder read `first [B, I]`, as wide as its inputs, and continues by itself: each
    /// output is the next input. Returns `[steps, B, O]`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network without a decoder, or whose outputs are not as wide as the decoder's inputs; those
    /// of [`Network::encode`] and [`Stream::step`].
    pub fn free_run<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        first: ArrayView2<f32>,
        steps: usize,
    ) -> Result<Array3<f32>, Error> {
        block_on(self.free_run_async(input, first, steps))
    }

    /// [`Network::free_run`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::free_run`].
    pub async fn free_run_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        first: ArrayView2<'_, f32>,
        steps: usize,
    ) -> Result<Array3<f32>, Error> {
        let input = input.into();
        let states = self.encode_async(&input).await?;
        let at = self.config().decoder().expect("encoding needs one");
        check_loop(self.config(), self.config().layers()[at].output)?;
        check_steps(steps, input.batch(), self.config().output())?;
        let mut stream = self.stream_async(input.batch()).await?;
        stream.set_states_async(&states).await?;
        let output = stream.step_async(first).await?;
        run_loop(&mut stream, output, steps).await
    }

    /// Reads a prompt of tokens, `[T, B]`, and writes `steps` more, `[steps, B]`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network that reads neither token numbers nor as many values as it writes;
    /// [`Error::Shape`] for tokens it does not know; [`Error::Value`] if no logit of the next token is a number above
    /// minus infinity; those of [`Network::forward`] and [`Network::stream`].
    pub fn generate(
        &self,
        prompt: ArrayView2<u32>,
        steps: usize,
        sampler: &mut Sampler,
    ) -> Result<Array2<u32>, Error> {
        block_on(self.generate_async(prompt, steps, sampler))
    }

    /// [`Network::generate`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::generate`].
    pub async fn generate_async(
        &self,
        prompt: ArrayView2<'_, u32>,
        steps: usize,
        sampler: &mut Sampler,
    ) -> Result<Array2<u32>, Error> {
        if self.config().decoder().is_some() {
            return Err(Error::refused(
                Refusal::Decoder,
                "a decoder writes from its encoder's states; use Network::decode",
            ));
        }
        let reader = TokenReader::new(self.config(), 0, self.config().input())?;
        check_steps(steps, prompt.ncols(), 1)?;
        if prompt.is_empty() {
            return Err(Error::Shape {
                what: "prompt".into(),
                expected: "[steps, batch], none of them 0".into(),
                found: format!("{:?}", prompt.shape()),
            });
        }
        reader.check("prompt", prompt.iter().copied())?;
        let mut stream = self.stream_async(prompt.ncols()).await?;
        let read = self.forward_async(&reader.sequences(prompt), None).await?;
        stream.set_states_async(&read.states).await?;
        let mut logits = reader.logits(last_step(&read.output), Some)?;
        let mut written = Array2::zeros((steps, prompt.ncols()));
        for step in 0..steps {
            let tokens: Array1<u32> = logits.rows().into_iter().map(|row| sampler.draw(row)).collect();
            written.row_mut(step).assign(&tokens);
            if step + 1 < steps {
                logits = reader.logits(stream.step_async(reader.step(&tokens).view()).await?, Some)?;
            }
        }
        Ok(written)
    }

    /// Encodes `input` and writes a sequence of tokens for each row; the marks are left out.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network without a decoder of tokens, a beam of width 0 or of too many streams, or a
    /// length power below 0; [`Error::Shape`] for a begin mark that the network does not know or an end mark that it
    /// cannot write; [`Error::Value`] as in [`Network::generate`]; those of [`Network::encode`].
    pub fn decode<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        marks: Marks,
        decoding: Decoding,
    ) -> Result<Vec<Vec<u32>>, Error> {
        block_on(self.decode_async(input, marks, decoding))
    }

    /// [`Network::decode`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::decode`].
    pub async fn decode_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        marks: Marks,
        decoding: Decoding,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let input = input.into();
        let (width, power) = match decoding {
            Decoding::Greedy => (1, None),
            Decoding::Beam { width: 0, .. } => {
                return Err(Error::refused(
                    Refusal::Option,
                    "a beam of width 0 keeps no candidate; expected at least 1",
                ));
            }
            Decoding::Beam { length_power, .. } if !(length_power >= 0.0 && length_power.is_finite()) => {
                let found =
                    format!("the length power is {length_power}; expected a finite number, 0 or more");
                return Err(Error::refused(Refusal::Option, found));
            }
            Decoding::Beam { width, length_power } => (width, Some(length_power)),
        };
        let states = self.encode_async(&input).await?;
        let at = self.config().decoder().expect("encoding needs one");
        let reader = TokenReader::new(self.config(), at + 1, self.config().layers()[at].output)?;
        reader.check("the mark that begins a sequence", [marks.begin])?;
        reader.check_written("the mark that ends a sequence", marks.end)?;
        let streams = Beam::most_open(marks, width, self.config().output());
        if input.batch().checked_mul(streams).is_none_or(|streams| streams > MAX_STREAMS) {
            return Err(Error::refused(
                Refusal::Option,
                format!(
                    "a beam of width {width} for each of {} rows; expected at most {MAX_STREAMS} candidates",
                    input.batch()
                ),
            ));
        }
        let rows: Vec<usize> = (0..input.batch()).flat_map(|row| vec![row; streams]).collect();
        let mut stream = self.stream_async(rows.len()).await?;
        stream.set_states_async(&choose_rows(&states, &rows)).await?;
        let Some(power) = power else { return decode_greedy(&mut stream, &reader, marks).await };

        let beam = |_| Beam::new(marks, width, streams, power);
        let mut beams: Vec<Beam> = (0..input.batch()).map(beam).collect();
        for _ in 0..marks.max_len {
            let tokens: Array1<u32> = beams.iter().flat_map(Beam::last_tokens).collect();
            let written = |at: usize| {
                let (row, stream) = (at / streams, at % streams);
                beams[row].is_open(stream).then_some(row)
            };
            let logits = reader.logits(stream.step_async(reader.step(&tokens).view()).await?, written)?;
            let mut from = Vec::with_capacity(rows.len());
            for (row, beam) in beams.iter_mut().enumerate() {
                let block = logits.slice(s![row * streams..(row + 1) * streams, ..]);
                from.extend(beam.extend(block).into_iter().map(|candidate| row * streams + candidate));
            }
            if beams.iter().all(Beam::is_done) {
                break;
            }
            let states = stream.states_async().await?;
            stream.set_states_async(&choose_rows(&states, &from)).await?;
        }
        Ok(beams.into_iter().map(Beam::best).collect())
    }

    /// Decoder input for scheduled sampling (Bengio et al. 2015): each token of `teacher [T, B]` after the first is
    /// kept with probability `ratio`, else replaced by the token that the network finds likeliest after the step
    /// before. Returns `[T, B]`, for [`Sequences::with_decoder`]. Training on it is exact, since no gradient goes
    /// through the choice of a token.
    ///
    /// # Errors
    /// [`Error::Refused`] for a ratio outside 0 to 1; [`Error::Shape`] for a teacher of other rows than the input's; those of
    /// [`Network::decode`].
    pub fn mix_teacher<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        teacher: ArrayView2<u32>,
        ratio: f32,
        seed: u64,
    ) -> Result<Array2<u32>, Error> {
        block_on(self.mix_teacher_async(input, teacher, ratio, seed))
    }

    /// [`Network::mix_teacher`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::mix_teacher`].
    pub async fn mix_teacher_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        teacher: ArrayView2<'_, u32>,
        ratio: f32,
        seed: u64,
    ) -> Result<Array2<u32>, Error> {
        let input = input.into();
        check_ratio(ratio)?;
        if teacher.ncols() != input.batch() {
            return Err(Error::Shape {
                what: "teacher".into(),
                expected: format!("[steps, batch {}]", input.batch()),
                found: format!("{:?}", teacher.shape()),
            });
        }
        let mut mixed = teacher.to_owned();
        let states = self.encode_async(&input).await?;
        let at = self.config().decoder().expect("encoding needs one");
        let reader = TokenReader::new(self.config(), at + 1, self.config().layers()[at].output)?;
        reader.check("teacher", teacher.iter().copied())?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut stream = self.stream_async(input.batch()).await?;
        stream.set_states_async(&states).await?;
        for step in 1..mixed.nrows() {
            let read = reader.step(&mixed.row(step - 1).to_owned());
            let logits = reader.logits(stream.step_async(read.view()).await?, Some)?;
            for (row, logits) in logits.rows().into_iter().enumerate() {
                if random.random_range(0.0..1.0) >= ratio {
                    mixed[[step, row]] = Sampler::greedy().draw(logits);
                }
            }
        }
        Ok(mixed)
    }

    /// [`Network::mix_teacher`] for a decoder of values, `teacher [T, B, I]`: after the first step, the input of each
    /// row is kept with probability `ratio`, else replaced by the output of the step before. Training on it treats
    /// those outputs as constants; only a layer with feedback gets gradients through its own output.
    ///
    /// # Errors
    /// [`Error::Refused`] for a ratio outside 0 to 1; [`Error::Shape`] for a teacher of other rows or width; those of
    /// [`Network::free_run`].
    pub fn mix_teacher_values<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        teacher: ArrayView3<f32>,
        ratio: f32,
        seed: u64,
    ) -> Result<Array3<f32>, Error> {
        block_on(self.mix_teacher_values_async(input, teacher, ratio, seed))
    }

    /// [`Network::mix_teacher_values`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::mix_teacher_values`].
    pub async fn mix_teacher_values_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        teacher: ArrayView3<'_, f32>,
        ratio: f32,
        seed: u64,
    ) -> Result<Array3<f32>, Error> {
        let input = input.into();
        check_ratio(ratio)?;
        let states = self.encode_async(&input).await?;
        let at = self.config().decoder().expect("encoding needs one");
        let width = self.config().layers()[at].output;
        check_loop(self.config(), width)?;
        let (_, batch, found) = teacher.dim();
        if (batch, found) != (input.batch(), width) {
            return Err(Error::Shape {
                what: "teacher".into(),
                expected: format!("[steps, batch {}, features {width}]", input.batch()),
                found: format!("{:?}", teacher.shape()),
            });
        }
        let mut mixed = teacher.to_owned();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut stream = self.stream_async(input.batch()).await?;
        stream.set_states_async(&states).await?;
        for step in 1..mixed.dim().0 {
            let output = stream.step_async(mixed.index_axis(Axis(0), step - 1)).await?;
            for (row, output) in output.rows().into_iter().enumerate() {
                if random.random_range(0.0..1.0) >= ratio {
                    mixed.slice_mut(s![step, row, ..]).assign(&output);
                }
            }
        }
        Ok(mixed)
    }
}

async fn decode_greedy(
    stream: &mut Stream,
    reader: &TokenReader,
    marks: Marks,
) -> Result<Vec<Vec<u32>>, Error> {
    let mut written = vec![Vec::new(); stream.batch()];
    let mut ended = vec![false; stream.batch()];
    let mut tokens = Array1::from_elem(stream.batch(), marks.begin);
    for _ in 0..marks.max_len {
        let output = stream.step_async(reader.step(&tokens).view()).await?;
        let logits = reader.logits(output, |row| (!ended[row]).then_some(row))?;
        for (row, logits) in logits.rows().into_iter().enumerate() {
            tokens[row] = Sampler::greedy().draw(logits);
            ended[row] |= tokens[row] == marks.end;
            if !ended[row] {
                written[row].push(tokens[row]);
            }
        }
        if ended.iter().all(|&ended| ended) {
            break;
        }
    }
    Ok(written)
}

/// The most streams of a beam search: far more than anybody uses, and still countable.
const MAX_STREAMS: usize = 1 << 24;

/// Checks that the outputs can be counted in bytes, so that memory can have room for them.
fn check_steps(steps: usize, batch: usize, width: usize) -> Result<(), Error> {
    let bytes = [batch, width, size_of::<f32>()].iter().try_fold(steps, |len, &by| len.checked_mul(by));
    if bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    let (what, expected) = ("steps to write".into(), "as many as memory has room for".into());
    Err(Error::Shape { what, expected, found: steps.to_string() })
}

fn check_ratio(ratio: f32) -> Result<(), Error> {
    if (0.0..=1.0).contains(&ratio) {
        return Ok(());
    }
    Err(Error::refused(Refusal::Option, format!("the teacher's ratio is {ratio}; expected 0 to 1")))
}

fn last_step(output: &Array3<f32>) -> Array2<f32> {
    output.index_axis(Axis(0), output.dim().0 - 1).to_owned()
}

fn check_loop(config: &NetworkConfig, input: usize) -> Result<(), Error> {
    if config.output() == input {
        return Ok(());
    }
    Err(Error::refused(
        Refusal::Loop,
        format!(
            "{config}: {} values come out and {input} go in; a closed loop needs as many out as in",
            config.output()
        ),
    ))
}

async fn run_loop(stream: &mut Stream, first: Array2<f32>, steps: usize) -> Result<Array3<f32>, Error> {
    let (batch, width) = first.dim();
    let mut outputs = Array3::zeros((steps, batch, width));
    let mut output = first;
    for step in 0..steps {
        outputs.index_axis_mut(Axis(0), step).assign(&output);
        if step + 1 < steps {
            output = stream.step_async(output.view()).await?;
        }
    }
    Ok(outputs)
}

/// The states of these rows, in this order; a row may be named several times.
fn choose_rows(states: &States, rows: &[usize]) -> States {
    let of_layer = |layer: &LayerState| LayerState {
        h: layer.h.select(Axis(1), rows),
        c: layer.c.as_ref().map(|c| c.select(Axis(1), rows)),
        y: layer.y.as_ref().map(|y| y.select(Axis(0), rows)),
    };
    States { layers: states.layers.iter().map(of_layer).collect() }
}
