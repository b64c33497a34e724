//! Networks that read what they wrote: closed loops over values, tokens one after the other, decoders.

use crate::beam::Beam;
use crate::{Decoding, Error, Marks, Network, Sequences, Stream};
use gatefold_cpu::{LayerState, States};
use gatefold_model::{LayerKind, NetworkConfig};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// How the next token is drawn from what a network says of it.
#[derive(Clone, Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: Option<usize>,
    random: ChaCha8Rng,
}

impl Sampler {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Sampler { temperature: 0.0, top_k: None, random: ChaCha8Rng::seed_from_u64(0) }
    }

    /// A token at random, as likely as the network says; the same seed draws the same.
    pub fn new(seed: u64) -> Self {
        Sampler { temperature: 1.0, top_k: None, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Divides logits: below 1 the likely becomes likelier, above 1 less so; 0 is greedy. 1 by default.
    ///
    /// # Errors
    /// [`Error::Config`] for a number below 0 or not finite.
    pub fn temperature(mut self, temperature: f32) -> Result<Self, Error> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            let found = format!("the temperature is {temperature}; expected a finite number, 0 or more");
            return Err(Error::Config(found));
        }
        self.temperature = temperature;
        Ok(self)
    }

    /// Draws among the `k` likeliest tokens alone; by default among all.
    ///
    /// # Errors
    /// [`Error::Config`] for 0.
    pub fn top_k(mut self, k: usize) -> Result<Self, Error> {
        if k == 0 {
            return Err(Error::Config("top-k of 0 leaves no token to draw; expected at least 1".into()));
        }
        self.top_k = Some(k);
        Ok(self)
    }

    /// Draws from logits, one for each token; those that are NaN are never drawn. Where none is a number above minus
    /// infinity, it is the first.
    ///
    /// # Panics
    /// If there is no token.
    pub fn draw(&mut self, logits: ArrayView1<f32>) -> u32 {
        let rank = |&token: &usize| if logits[token].is_nan() { f32::NEG_INFINITY } else { logits[token] };
        let mut tokens: Vec<usize> = (0..logits.len()).collect();
        // Equal logits, 0 and -0 among them: the first token first.
        tokens.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).expect("no rank is NaN"));
        if self.temperature == 0.0 {
            return tokens[0] as u32;
        }
        tokens.truncate(self.top_k.unwrap_or(usize::MAX));
        let highest = f64::from(rank(&tokens[0]));
        let weight = |token: &usize| ((f64::from(rank(token)) - highest) / f64::from(self.temperature)).exp();
        let weights: Vec<f64> = tokens.iter().map(weight).collect();
        let mut left = self.random.random_range(0.0..1.0) * weights.iter().sum::<f64>();
        for (token, weight) in tokens.iter().zip(weights) {
            left -= weight;
            if left < 0.0 {
                return *token as u32;
            }
        }
        tokens[0] as u32
    }
}

impl Network {
    /// Reads `input [T, B, I]` and goes on by itself: each output is the next input. Gives the `steps` outputs from the
    /// last one over the input on, `[steps, B, O]`.
    ///
    /// # Errors
    /// [`Error::Config`] for a network whose outputs are not as wide as its inputs or that has a decoder, and for rows of
    /// different length; those of [`Network::forward`] and [`Network::stream`].
    pub fn closed_loop(&mut self, input: &Sequences, steps: usize) -> Result<Array3<f32>, Error> {
        if self.config().decoder().is_some() {
            return Err(Error::Config("a decoder goes on from its encoder; use Network::free_run".into()));
        }
        check_loop(self.config(), self.config().input())?;
        check_steps(steps, input.batch(), self.config().output())?;
        if input.lengths().is_some() {
            return Err(Error::Config(
                "a closed loop goes on behind the last step; expected rows of one length".into(),
            ));
        }
        let mut stream = self.stream(input.batch())?;
        let read = self.forward(input, None)?;
        stream.set_states(self, &read.states)?;
        run_loop(self, &mut stream, last_step(&read.output), steps)
    }

    /// Encodes `input`, then lets the decoder read `first [B, I]`, as wide as its inputs, and go on by itself: each
    /// output is the next input. `[steps, B, O]`.
    ///
    /// # Errors
    /// [`Error::Config`] for a network without a decoder, or whose outputs are not as wide as the decoder's inputs; those
    /// of [`Network::encode`] and [`Stream::step`].
    pub fn free_run(
        &mut self,
        input: &Sequences,
        first: ArrayView2<f32>,
        steps: usize,
    ) -> Result<Array3<f32>, Error> {
        let states = self.encode(input)?;
        let at = self.config().decoder().expect("encoding needs one");
        check_loop(self.config(), self.config().layers()[at].output)?;
        check_steps(steps, input.batch(), self.config().output())?;
        let mut stream = self.stream(input.batch())?;
        stream.set_states(self, &states)?;
        let output = stream.step(self, first)?;
        run_loop(self, &mut stream, output, steps)
    }

    /// Reads a prompt of tokens, `[T, B]`, and writes `steps` more, `[steps, B]`.
    ///
    /// # Errors
    /// [`Error::Config`] for a network that reads neither token numbers nor as many values as it writes;
    /// [`Error::Shape`] for tokens it does not know; [`Error::Value`] where it says nothing of the next token, since all
    /// its logits are NaN; those of [`Network::forward`] and [`Network::stream`].
    pub fn generate(
        &mut self,
        prompt: ArrayView2<u32>,
        steps: usize,
        sampler: &mut Sampler,
    ) -> Result<Array2<u32>, Error> {
        if self.config().decoder().is_some() {
            return Err(Error::Config("a decoder writes what its encoder read; use Network::decode".into()));
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
        let mut stream = self.stream(prompt.ncols())?;
        let read = self.forward(&reader.sequences(prompt), None)?;
        stream.set_states(self, &read.states)?;
        let mut logits = reader.logits(last_step(&read.output), Some)?;
        let mut written = Array2::zeros((steps, prompt.ncols()));
        for step in 0..steps {
            let tokens: Array1<u32> = logits.rows().into_iter().map(|row| sampler.draw(row)).collect();
            written.row_mut(step).assign(&tokens);
            if step + 1 < steps {
                logits = reader.logits(stream.step(self, reader.step(&tokens).view())?, Some)?;
            }
        }
        Ok(written)
    }

    /// Encodes `input` and writes a sequence of tokens for each row, without the marks.
    ///
    /// # Errors
    /// [`Error::Config`] for a network without a decoder of tokens, a beam of width 0 or of too many streams, or a length
    /// power below 0; [`Error::Shape`] for a beginning that the network does not know and an end that it cannot write;
    /// [`Error::Value`] as in [`Network::generate`]; those of [`Network::encode`].
    pub fn decode(
        &mut self,
        input: &Sequences,
        marks: Marks,
        decoding: Decoding,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let (width, power) = match decoding {
            Decoding::Greedy => (1, None),
            Decoding::Beam { width: 0, .. } => {
                return Err(Error::Config(
                    "a beam of width 0 keeps no candidate; expected at least 1".into(),
                ));
            }
            Decoding::Beam { length_power, .. } if !(length_power >= 0.0 && length_power.is_finite()) => {
                let found =
                    format!("the length power is {length_power}; expected a finite number, 0 or more");
                return Err(Error::Config(found));
            }
            Decoding::Beam { width, length_power } => (width, Some(length_power)),
        };
        let states = self.encode(input)?;
        let at = self.config().decoder().expect("encoding needs one");
        let reader = TokenReader::new(self.config(), at + 1, self.config().layers()[at].output)?;
        reader.check("the mark that begins a sequence", [marks.begin])?;
        reader.check_written("the mark that ends a sequence", marks.end)?;
        let streams = Beam::most_open(marks, width, self.config().output());
        if input.batch().checked_mul(streams).is_none_or(|streams| streams > MAX_STREAMS) {
            return Err(Error::Config(format!(
                "a beam of width {width} for each of {} rows; expected at most {MAX_STREAMS} candidates",
                input.batch()
            )));
        }
        let rows: Vec<usize> = (0..input.batch()).flat_map(|row| vec![row; streams]).collect();
        let mut stream = self.stream(rows.len())?;
        stream.set_states(self, &choose_rows(&states, &rows))?;
        let Some(power) = power else { return self.decode_greedy(&mut stream, &reader, marks) };

        let beam = |_| Beam::new(marks, width, streams, power);
        let mut beams: Vec<Beam> = (0..input.batch()).map(beam).collect();
        for _ in 0..marks.max_len {
            let tokens: Array1<u32> = beams.iter().flat_map(Beam::last_tokens).collect();
            let written = |at: usize| {
                let (row, stream) = (at / streams, at % streams);
                beams[row].is_open(stream).then_some(row)
            };
            let logits = reader.logits(stream.step(self, reader.step(&tokens).view())?, written)?;
            let mut from = Vec::with_capacity(rows.len());
            for (row, beam) in beams.iter_mut().enumerate() {
                let block = logits.slice(s![row * streams..(row + 1) * streams, ..]);
                from.extend(beam.extend(block).into_iter().map(|candidate| row * streams + candidate));
            }
            if beams.iter().all(Beam::is_done) {
                break;
            }
            let states = stream.states()?;
            stream.set_states(self, &choose_rows(&states, &from))?;
        }
        Ok(beams.into_iter().map(Beam::best).collect())
    }

    fn decode_greedy(
        &mut self,
        stream: &mut Stream,
        reader: &TokenReader,
        marks: Marks,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let mut written = vec![Vec::new(); stream.batch()];
        let mut ended = vec![false; stream.batch()];
        let mut tokens = Array1::from_elem(stream.batch(), marks.begin);
        for _ in 0..marks.max_len {
            let output = stream.step(self, reader.step(&tokens).view())?;
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

    /// What a decoder reads when some of its own tokens stand in for the right ones (scheduled sampling, Bengio et al. 2015):
    /// each token of `teacher [T, B]` behind the first is kept with probability `ratio`, else replaced by the likeliest of
    /// the step before. What comes out is `[T, B]`, for [`Sequences::with_decoder`]. Training on it is exact, since no
    /// gradient goes through a choice of token.
    ///
    /// # Errors
    /// [`Error::Config`] for a ratio outside 0 to 1; [`Error::Shape`] for a teacher of other rows than the input's; those of
    /// [`Network::decode`].
    pub fn mix_teacher(
        &mut self,
        input: &Sequences,
        teacher: ArrayView2<u32>,
        ratio: f32,
        seed: u64,
    ) -> Result<Array2<u32>, Error> {
        check_ratio(ratio)?;
        if teacher.ncols() != input.batch() {
            return Err(Error::Shape {
                what: "teacher".into(),
                expected: format!("[steps, batch {}]", input.batch()),
                found: format!("{:?}", teacher.shape()),
            });
        }
        let mut mixed = teacher.to_owned();
        let states = self.encode(input)?;
        let at = self.config().decoder().expect("encoding needs one");
        let reader = TokenReader::new(self.config(), at + 1, self.config().layers()[at].output)?;
        reader.check("teacher", teacher.iter().copied())?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut stream = self.stream(input.batch())?;
        stream.set_states(self, &states)?;
        for step in 1..mixed.nrows() {
            let read = reader.step(&mixed.row(step - 1).to_owned());
            let logits = reader.logits(stream.step(self, read.view())?, Some)?;
            for (row, logits) in logits.rows().into_iter().enumerate() {
                if random.random_range(0.0..1.0) >= ratio {
                    mixed[[step, row]] = Sampler::greedy().draw(logits);
                }
            }
        }
        Ok(mixed)
    }

    /// [`Network::mix_teacher`] for a decoder of values, `teacher [T, B, I]`: what a row reads behind its first step is kept
    /// with probability `ratio`, else it is the output of the step before. Training on it takes those outputs as given; a
    /// layer with feedback gets gradients through its own.
    ///
    /// # Errors
    /// [`Error::Config`] for a ratio outside 0 to 1; [`Error::Shape`] for a teacher of other rows or width; those of
    /// [`Network::free_run`].
    pub fn mix_teacher_values(
        &mut self,
        input: &Sequences,
        teacher: ArrayView3<f32>,
        ratio: f32,
        seed: u64,
    ) -> Result<Array3<f32>, Error> {
        check_ratio(ratio)?;
        let states = self.encode(input)?;
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
        let mut stream = self.stream(input.batch())?;
        stream.set_states(self, &states)?;
        for step in 1..mixed.dim().0 {
            let output = stream.step(self, mixed.index_axis(Axis(0), step - 1))?;
            for (row, output) in output.rows().into_iter().enumerate() {
                if random.random_range(0.0..1.0) >= ratio {
                    mixed.slice_mut(s![step, row, ..]).assign(&output);
                }
            }
        }
        Ok(mixed)
    }
}

/// Streams that a beam may have: far above any use, and countable.
const MAX_STREAMS: usize = 1 << 24;

/// That so many outputs can be counted, and so have room somewhere.
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
    Err(Error::Config(format!("the teacher's ratio is {ratio}; expected 0 to 1")))
}

fn last_step(output: &Array3<f32>) -> Array2<f32> {
    output.index_axis(Axis(0), output.dim().0 - 1).to_owned()
}

fn check_loop(config: &NetworkConfig, input: usize) -> Result<(), Error> {
    if config.output() == input {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{config}: {} values come out and {input} go in; a closed loop needs as many",
        config.output()
    )))
}

fn run_loop(
    network: &mut Network,
    stream: &mut Stream,
    first: Array2<f32>,
    steps: usize,
) -> Result<Array3<f32>, Error> {
    let (batch, width) = first.dim();
    let mut outputs = Array3::zeros((steps, batch, width));
    let mut output = first;
    for step in 0..steps {
        outputs.index_axis_mut(Axis(0), step).assign(&output);
        if step + 1 < steps {
            output = stream.step(network, output.view())?;
        }
    }
    Ok(outputs)
}

/// Turns tokens into what a network reads and what it writes into logits.
struct TokenReader {
    /// Tokens as numbers for an embedding, or one of so many values 1.
    one_hot: Option<usize>,
    /// How many tokens it knows.
    known: usize,
    /// How many it writes.
    tokens: usize,
    probabilities: bool,
}

impl TokenReader {
    /// For the layers from `begin` on, which read `width` values.
    fn new(config: &NetworkConfig, begin: usize, width: usize) -> Result<TokenReader, Error> {
        let tokens = config.output();
        let (one_hot, known) = match config.layers().get(begin).map(|layer| layer.kind) {
            Some(LayerKind::Embedding { tokens: known }) if known >= tokens => (None, known),
            Some(LayerKind::Embedding { tokens: known }) => {
                return Err(Error::Config(format!(
                    "{config}: it writes {tokens} tokens and its embedding knows {known}; expected at least as many"
                )));
            }
            _ if width == tokens => (Some(tokens), tokens),
            _ => {
                return Err(Error::Config(format!(
                    "{config}: it reads {width} values and writes {tokens} tokens; expected an embedding or {tokens} values"
                )));
            }
        };
        let last = config.layers().last().map(|layer| layer.kind);
        Ok(TokenReader { one_hot, known, tokens, probabilities: last == Some(LayerKind::Softmax) })
    }

    /// That the network knows every one of those tokens.
    fn check(&self, what: &str, tokens: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        tokens.into_iter().try_for_each(|token| check_token(what, token, self.known))
    }

    /// That the network can write that token.
    fn check_written(&self, what: &str, token: u32) -> Result<(), Error> {
        check_token(what, token, self.tokens)
    }

    fn step(&self, tokens: &Array1<u32>) -> Array2<f32> {
        match self.one_hot {
            None => tokens.mapv(|token| token as f32).insert_axis(Axis(1)),
            Some(width) => {
                let one = |(row, token): (usize, usize)| f32::from(tokens[row] as usize == token);
                Array2::from_shape_fn((tokens.len(), width), one)
            }
        }
    }

    fn sequences(&self, tokens: ArrayView2<u32>) -> Sequences {
        match self.one_hot {
            None => Sequences::tokens(tokens),
            Some(width) => {
                let shape = (tokens.nrows(), tokens.ncols(), width);
                let one = |(step, row, token)| f32::from(tokens[[step, row]] as usize == token);
                Sequences::time_major(Array3::from_shape_fn(shape, one))
            }
        }
    }

    /// One row for each stream. Where somebody looks at a stream, `row_of` says which row of the input it writes for, and
    /// there is a token that can be written.
    fn logits(
        &self,
        output: Array2<f32>,
        row_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<Array2<f32>, Error> {
        let logits = if self.probabilities { output.mapv(f32::ln) } else { output };
        let says_nothing = |row: ArrayView1<f32>| !row.iter().any(|&logit| logit > f32::NEG_INFINITY);
        for (stream, logits) in logits.rows().into_iter().enumerate() {
            if let Some(row) = row_of(stream)
                && says_nothing(logits)
            {
                return Err(Error::Value {
                    what: format!("logits of the next token, row {row}"),
                    expected: "a number for at least one token".into(),
                    found: format!("{}; look for NaN in the parameters and the input", logits[0]),
                });
            }
        }
        Ok(logits)
    }
}

fn check_token(what: &str, token: u32, count: usize) -> Result<(), Error> {
    if (token as usize) < count {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.into(),
        expected: format!("token numbers, 0 to {}", count - 1),
        found: token.to_string(),
    })
}

/// The states of some rows, in that order, each as often as it is named.
fn choose_rows(states: &States, rows: &[usize]) -> States {
    let of_layer = |layer: &LayerState| LayerState {
        h: layer.h.select(Axis(1), rows),
        c: layer.c.as_ref().map(|c| c.select(Axis(1), rows)),
        y: layer.y.as_ref().map(|y| y.select(Axis(0), rows)),
    };
    States { layers: states.layers.iter().map(of_layer).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn draws_are_as_frequent_as_the_logits_say() {
        let logits = array![0.5f32.ln(), 0.3f32.ln(), f32::NAN, 0.2f32.ln()];
        let mut sampler = Sampler::new(7);
        let mut counts = [0usize; 4];
        let draws = 20_000;
        (0..draws).for_each(|_| counts[sampler.draw(logits.view()) as usize] += 1);
        assert_eq!(counts[2], 0, "NaN is never drawn");
        for (token, p) in [(0, 0.5), (1, 0.3), (3, 0.2)] {
            let expected: f64 = p * f64::from(draws);
            let five_sigma = 5.0 * (expected * (1.0 - p)).sqrt();
            assert!((counts[token] as f64 - expected).abs() < five_sigma, "token {token}: {}", counts[token]);
        }
    }

    #[test]
    fn temperature_and_top_k_narrow_the_choice() {
        let logits = array![1.0f32, 3.0, 2.0];
        let mut greedy = Sampler::new(1).temperature(0.0).unwrap();
        let mut first = Sampler::new(1).top_k(1).unwrap();
        let mut cold = Sampler::new(1).temperature(0.01).unwrap();
        let mut two = Sampler::new(1).temperature(100.0).unwrap().top_k(2).unwrap();
        let mut seen = [false; 3];
        for _ in 0..200 {
            assert_eq!(
                [greedy.draw(logits.view()), first.draw(logits.view()), cold.draw(logits.view())],
                [1; 3]
            );
            seen[two.draw(logits.view()) as usize] = true;
        }
        assert_eq!(seen, [false, true, true]);
        assert!(Sampler::new(0).temperature(f32::NAN).is_err() && Sampler::new(0).top_k(0).is_err());
    }

    #[test]
    fn of_equal_logits_the_first_token_is_drawn() {
        for logits in [[1.0, 2.0, 2.0], [-1.0, -0.0, 0.0], [f32::NAN, 0.0, -0.0]] {
            assert_eq!(Sampler::greedy().draw(ArrayView1::from(&logits)), 1, "{logits:?}");
        }
    }
}
