//! Networks that read their own outputs, compared with the same loop by hand over whole passes. On the CPU and on a
//! GPU.

use gatefold::generate::{Decoding, Marks, Sampler};
use gatefold::layers::{
    Activation, Biases, Bridge, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig,
    LayerConfig, LstmConfig, RnnConfig,
};
use gatefold::{Device, Error, Network, NetworkConfig, Parameters, Sequences};
use gatefold_check::{Failures, NetworkCase, Random, Tolerance, assert_array, output_terms, test_devices};
use ndarray::{Array2, Array3, ArrayView1, Axis, array, concatenate, s};

const SEED: u64 = 23;
/// With three or more rows, the CPU computes the same bits step by step as for all steps at once.
const BATCH: usize = 3;

fn config(input: usize, layers: impl Into<Vec<LayerConfig>>) -> NetworkConfig {
    NetworkConfig::new(input, layers).unwrap()
}

fn dense(output: usize) -> LayerConfig {
    DenseConfig::new(output).into()
}

/// A network without zero parameters, and with weights large enough that tokens differ in likelihood.
fn network(device: &Device, config: &NetworkConfig) -> Network {
    scaled_network(device, config, SEED, 2.0)
}

fn scaled_network(device: &Device, config: &NetworkConfig, seed: u64, factor: f32) -> Network {
    let case = NetworkCase { config: config.clone(), steps: 1, batch: 1, seed };
    let mut parameters = case.parameters();
    for spec in config.parameter_specs() {
        *parameters.get_mut(&spec.name).unwrap() *= factor;
    }
    Network::with_parameters(device, config, &parameters).unwrap()
}

/// The likeliest token; the first of several equal ones.
fn argmax(logits: ArrayView1<f32>) -> u32 {
    let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).fold(0, better) as u32
}

/// `ln(exp(x_k) / sum_j exp(x_j))`
fn log_likelihood(logits: ArrayView1<f32>, token: u32) -> f64 {
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    f64::from(logits[token as usize]) - total.ln()
}

fn tokens_of(rows: &[Vec<u32>]) -> Array2<u32> {
    Array2::from_shape_fn((rows[0].len(), rows.len()), |(t, row)| rows[row][t])
}

fn one_hot(tokens: &Array2<u32>, width: usize) -> Sequences<'static> {
    let shape = (tokens.nrows(), tokens.ncols(), width);
    let is = |(t, row, token): (usize, usize, usize)| f32::from(tokens[[t, row]] as usize == token);
    Sequences::time_major(Array3::from_shape_fn(shape, is))
}

#[test]
fn greedy_generation_writes_the_likeliest_token_after_each_prefix() {
    let embedded = config(1, [EmbeddingConfig::new(7, 4).into(), GruConfig::new(6).into(), dense(7)]);
    let plain = config(5, [LstmConfig::new(6).skip(2).into(), dense(5), LayerConfig::Softmax]);
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for (config, width) in [(&embedded, None), (&plain, Some(5))] {
            failures.check(format!("{device}, {config}"), || {
                let network = network(opened, config);
                let prompt = array![[1u32, 4, 0], [3, 3, 2]];
                let steps = 5;
                let found = network.generate(prompt.view(), steps, &mut Sampler::greedy()).unwrap();
                let mut so_far = prompt.clone();
                for _ in 0..steps {
                    let read = match width {
                        None => Sequences::tokens(so_far.view()),
                        Some(width) => one_hot(&so_far, width),
                    };
                    let output = network.forward(&read, None).unwrap().output;
                    let last = output.index_axis(Axis(0), so_far.nrows() - 1);
                    let next: Vec<u32> = last.rows().into_iter().map(argmax).collect();
                    so_far.push_row(ArrayView1::from(&next)).unwrap();
                }
                assert_eq!(found, so_far.slice(s![2.., ..]), "the tokens");
                // Draws among one candidate are greedy; draws with one seed repeat.
                let mut first = Sampler::new(1).top_k(1).unwrap();
                assert_eq!(network.generate(prompt.view(), steps, &mut first).unwrap(), found);
                let draw = || network.generate(prompt.view(), 9, &mut Sampler::new(6)).unwrap();
                assert_eq!(draw(), draw());
                assert_ne!(draw().slice(s![..steps, ..]), found, "a draw is not always the likeliest");
            });
        }
    }
    failures.finish();
}

#[test]
fn a_closed_loop_feeds_outputs_back() {
    let tanh = Activation::Tanh;
    let skipping =
        config(2, [LstmConfig::new(5).skip(2).into(), DenseConfig::new(2).activation(tanh).into()]);
    let last = config(2, [GruConfig::new(5).into(), LayerConfig::LastStep, dense(2)]);
    let dilated =
        config(2, [LstmConfig::new(5).dilation(3).into(), GruConfig::new(4).dilation(2).into(), dense(2)]);
    let own = config(3, [GruConfig::new(4).feedback(3, tanh).into()]);
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for config in [&skipping, &last, &dilated, &own] {
            failures.check(format!("{device}, {config}"), || {
                let network = network(opened, config);
                let given = Random::new(SEED, 1).sequence((3, BATCH, config.input()));
                let steps = 4;
                let found = network.closed_loop(Sequences::time_major(given.clone()), steps).unwrap();
                assert_eq!(found.dim(), (steps, BATCH, config.output()));
                let mut so_far = given;
                for step in 0..steps {
                    let output = network.forward(Sequences::time_major(so_far.clone()), None).unwrap().output;
                    let next = output.slice(s![-1.., .., ..]);
                    // Both ways round at each step after the input. The loop by hand continues with the found outputs.
                    let tolerance = match *device {
                        "cpu" => Tolerance::EXACT,
                        _ => Tolerance::output(output_terms(config)).times(2),
                    };
                    let this = found.slice(s![step..step + 1, .., ..]);
                    assert_array(&format!("step {step}"), this, next, tolerance);
                    so_far = concatenate![Axis(0), so_far, this];
                }
            });
        }
    }
    failures.finish();
}

/// An encoder and a decoder of values.
fn value_translator() -> NetworkConfig {
    let both = GruConfig::new(4).direction(Direction::Bidirectional);
    config(
        3,
        [
            both.into(),
            DecoderConfig::new(2).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
            LstmConfig::new(5).into(),
            dense(2),
        ],
    )
}

#[test]
fn a_free_run_feeds_the_decoder_its_outputs() {
    let config = value_translator();
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let network = network(opened, &config);
            let values = Random::new(SEED, 2).sequence((4, BATCH, 3));
            let encoder = Sequences::time_major(values).with_lengths([4, 1, 3]).unwrap();
            let first = Random::new(SEED, 3).sequence((1, BATCH, 2));
            let steps = 4;
            let found = network.free_run(&encoder, first.index_axis(Axis(0), 0), steps).unwrap();
            let mut so_far = first;
            for step in 0..steps {
                let own = Sequences::time_major(so_far.clone());
                let output = network.forward(encoder.clone().with_decoder(own), None).unwrap().output;
                let tolerance = match *device {
                    "cpu" => Tolerance::EXACT,
                    _ => Tolerance::output(output_terms(&config)).times(2),
                };
                let this = found.slice(s![step..step + 1, .., ..]);
                assert_array(&format!("step {step}"), this, output.slice(s![-1.., .., ..]), tolerance);
                so_far = concatenate![Axis(0), so_far, this];
            }
        });
    }
    failures.finish();
}

/// An encoder and a decoder of tokens.
fn translator(tokens: usize) -> NetworkConfig {
    config(
        1,
        [
            EmbeddingConfig::new(9, 4).into(),
            LstmConfig::new(5).into(),
            DecoderConfig::new(1).into(),
            EmbeddingConfig::new(tokens, 3).into(),
            LstmConfig::new(5).into(),
            dense(tokens),
        ],
    )
}

/// Rows to translate.
fn sentence() -> Sequences<'static> {
    let tokens = Array2::from_shape_fn((4, BATCH), |(t, row)| ((5 * t + 3 * row + t * row) % 9) as u32);
    Sequences::tokens(tokens.view()).with_lengths([4, 2, 3]).unwrap()
}

/// The decoder's outputs after every prefix of `read [T, B]`.
fn teacher_forced(network: &Network, encoder: &Sequences, read: &Array2<u32>) -> Array3<f32> {
    let input = encoder.clone().with_decoder(Sequences::tokens(read.view()));
    network.forward(&input, None).unwrap().output
}

/// Greedy decoding by hand, `[steps + 1, B]` with the begin mark.
fn greedy_by_hand(network: &Network, encoder: &Sequences, begin: u32, steps: usize) -> Array2<u32> {
    let mut read = Array2::from_elem((1, BATCH), begin);
    for _ in 0..steps {
        let output = teacher_forced(network, encoder, &read);
        let last = output.index_axis(Axis(0), read.nrows() - 1);
        let next: Vec<u32> = last.rows().into_iter().map(argmax).collect();
        read.push_row(ArrayView1::from(&next)).unwrap();
    }
    read
}

#[test]
fn greedy_decoding_stops_at_the_end_mark() {
    let max_len = 6;
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        let network = network(opened, &translator(6));
        let encoder = sentence();
        let whole = greedy_by_hand(&network, &encoder, 0, max_len);
        // Every token in turn is the end mark; some do not occur.
        for end in 0..6 {
            failures.check(format!("{device}, end {end}"), || {
                let until = |row: usize| -> Vec<u32> {
                    let tokens = whole.slice(s![1.., row]).to_vec();
                    tokens.into_iter().take_while(|token| *token != end).collect()
                };
                let expected: Vec<Vec<u32>> = (0..BATCH).map(until).collect();
                let marks = Marks { begin: 0, end, max_len };
                let found = network.decode(&encoder, marks, Decoding::Greedy).unwrap();
                assert_eq!(found, expected, "greedy");
                // A beam of one candidate is greedy.
                for length_power in [0.0, 1.0] {
                    let beam = Decoding::Beam { width: 1, length_power };
                    assert_eq!(network.decode(&encoder, marks, beam).unwrap(), expected, "{beam:?}");
                }
            });
        }
    }
    failures.finish();
}

/// A beam wide enough to keep every sequence of at most `max_len` tokens, end mark included, finds the likeliest.
#[test]
fn a_beam_that_keeps_all_finds_the_likeliest_sequence() {
    let (tokens, begin, end, max_len) = (3u32, 0u32, 2u32, 4usize);
    let mut open: Vec<Vec<u32>> = vec![vec![]];
    let mut all: Vec<Vec<u32>> = Vec::new();
    for _ in 0..max_len {
        all.extend(open.iter().cloned());
        let longer = |written: &Vec<u32>| {
            let written = written.clone();
            (0..tokens).filter(|token| *token != end).map(move |token| {
                let mut longer = written.clone();
                longer.push(token);
                longer
            })
        };
        open = open.iter().flat_map(longer).collect();
    }
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        let network = network(opened, &translator(tokens as usize));
        let encoder = sentence();
        let read: Vec<Vec<u32>> = all
            .iter()
            .map(|written| {
                let mut read = vec![begin];
                read.extend(written);
                read.resize(max_len, begin); // padding, which changes nothing before it
                read
            })
            .collect();
        let found_greedy = network.decode(&encoder, Marks { begin, end, max_len }, Decoding::Greedy).unwrap();
        let likelihoods: Vec<Vec<f64>> = (0..BATCH)
            .map(|row| {
                let length = encoder.lengths().unwrap()[row];
                let one = encoder.values().slice(s![..length, row..row + 1, ..]).to_owned();
                let many = concatenate(Axis(1), &vec![one.view(); all.len()]).unwrap();
                let output = teacher_forced(&network, &Sequences::time_major(many), &tokens_of(&read));
                let of = |(number, written): (usize, &Vec<u32>)| -> f64 {
                    let ended = written.iter().copied().chain([end]).enumerate();
                    ended.map(|(t, token)| log_likelihood(output.slice(s![t, number, ..]), token)).sum()
                };
                all.iter().enumerate().map(of).collect()
            })
            .collect();
        for length_power in [0.0f32, 1.0] {
            failures.check(format!("{device}, length power {length_power}"), || {
                let beam = Decoding::Beam { width: 40, length_power };
                let found = network.decode(&encoder, Marks { begin, end, max_len }, beam).unwrap();
                for row in 0..BATCH {
                    let rank = |number: usize| {
                        let len = (all[number].len() + 1) as f64;
                        likelihoods[row][number] / len.powf(f64::from(length_power))
                    };
                    let best = (0..all.len()).max_by(|a, b| rank(*a).total_cmp(&rank(*b))).unwrap();
                    assert_eq!(found[row], all[best], "row {row}");
                    if let Some(greedy) = all.iter().position(|written| *written == found_greedy[row]) {
                        assert!(rank(best) >= rank(greedy), "row {row}: greedy is better");
                    }
                }
            });
        }
    }
    failures.finish();
}

/// Tokens so far and their log-likelihood.
type Candidate = (Vec<u32>, f64);

/// Beam search for one row by hand, which reads each candidate from its first token at every step.
fn beam_by_hand(network: &Network, one: &Sequences, marks: Marks, width: usize, power: f64) -> Vec<u32> {
    let (mut open, mut ended): (Vec<Candidate>, Vec<Candidate>) = (vec![(vec![], 0.0)], vec![]);
    for _ in 0..marks.max_len {
        let read = |(tokens, _): &Candidate| [&[marks.begin], &tokens[..]].concat();
        let read: Vec<Vec<u32>> = open.iter().map(read).collect();
        let many = concatenate(Axis(1), &vec![one.values(); read.len()]).unwrap();
        let output = teacher_forced(network, &Sequences::time_major(many), &tokens_of(&read));
        let mut longer: Vec<Candidate> = Vec::new();
        for (number, (tokens, score)) in open.iter().enumerate() {
            let logits = output.slice(s![-1, number, ..]);
            longer.extend(
                (0..logits.len() as u32)
                    .map(|token| ([&tokens[..], &[token]].concat(), score + log_likelihood(logits, token))),
            );
        }
        longer.sort_by(|a, b| b.1.total_cmp(&a.1));
        longer.truncate(width);
        let of_end = |(tokens, _): &Candidate| tokens.last() == Some(&marks.end);
        let (closed, others): (Vec<Candidate>, Vec<Candidate>) = longer.into_iter().partition(of_end);
        ended.extend(closed);
        open = others;
        if open.is_empty() {
            break;
        }
    }
    // The end mark counts as a token, even for candidates that ran out of room.
    let rank = |(tokens, score): &Candidate| {
        let len = tokens.len() + usize::from(tokens.last() != Some(&marks.end));
        score / (len as f64).powf(power)
    };
    let all = if ended.is_empty() { open } else { ended };
    let (mut tokens, _) = all.into_iter().max_by(|a, b| rank(a).total_cmp(&rank(b))).unwrap();
    tokens.retain(|token| *token != marks.end);
    tokens
}

#[test]
fn a_narrow_beam_continues_from_its_candidates() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        // A candidate seldom overtakes the others and wins, so several networks are needed to see one that does.
        for seed in 0..8 {
            failures.check(format!("{device}, seed {seed}"), || {
                let network = scaled_network(opened, &translator(4), seed, 4.0);
                let encoder = sentence();
                let (marks, width, length_power) = (Marks { begin: 0, end: 1, max_len: 5 }, 3, 1.0);
                let found = network.decode(&encoder, marks, Decoding::Beam { width, length_power }).unwrap();
                assert_eq!(found.len(), BATCH);
                for (row, found) in found.iter().enumerate() {
                    let length = encoder.lengths().unwrap()[row];
                    let one = encoder.values().slice(s![..length, row..row + 1, ..]).to_owned();
                    let power = f64::from(length_power);
                    let expected = beam_by_hand(&network, &Sequences::time_major(one), marks, width, power);
                    assert_eq!(*found, expected, "row {row}");
                }
            });
        }
    }
    failures.finish();
}

#[test]
fn a_teacher_is_mixed_in_by_its_ratio() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let network = network(opened, &translator(6));
            let encoder = sentence();
            let teacher = Array2::from_shape_fn((6, BATCH), |(t, row)| ((t * t + 2 * row + 1) % 6) as u32);
            let mix =
                |ratio: f32, seed: u64| network.mix_teacher(&encoder, teacher.view(), ratio, seed).unwrap();
            assert_eq!(mix(1.0, 3), teacher, "the teacher alone");
            let (alone, half, again) = (mix(0.0, 3), mix(0.5, 3), mix(0.5, 3));
            assert_eq!(half, again, "one seed, one mix");
            assert_ne!(half, mix(0.5, 4), "another seed, another mix");
            for (ratio, mixed) in [(0.0, &alone), (0.5, &half)] {
                assert_eq!(mixed.row(0), teacher.row(0), "the first step");
                let output = teacher_forced(&network, &encoder, mixed);
                let (mut taught, mut written) = (0, 0);
                for t in 1..teacher.nrows() {
                    for row in 0..BATCH {
                        let own = argmax(output.slice(s![t - 1, row, ..]));
                        let found = mixed[[t, row]];
                        assert!(found == own || found == teacher[[t, row]], "step {t}, row {row}");
                        taught += usize::from(found != own);
                        written += usize::from(found != teacher[[t, row]]);
                    }
                }
                assert!(written > 0 && (taught > 0) == (ratio > 0.0), "{taught} of {written}");
            }
        });
    }
    failures.finish();
}

#[test]
fn a_teacher_of_values_is_mixed_in_by_its_ratio() {
    let config = value_translator();
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let network = network(opened, &config);
            let values = Random::new(SEED, 5).sequence((4, BATCH, 3));
            let encoder = Sequences::time_major(values).with_lengths([4, 1, 3]).unwrap();
            let teacher = Random::new(SEED, 6).sequence((6, BATCH, 2));
            let mix = |ratio: f32, seed: u64| {
                network.mix_teacher_values(&encoder, teacher.view(), ratio, seed).unwrap()
            };
            assert_eq!(mix(1.0, 3), teacher, "the teacher alone");
            let (alone, half) = (mix(0.0, 3), mix(0.5, 3));
            assert_eq!(half, mix(0.5, 3), "one seed, one mix");
            assert_ne!(half, mix(0.5, 4), "another seed, another mix");
            let free = network.free_run(&encoder, teacher.index_axis(Axis(0), 0), 5).unwrap();
            assert_eq!(alone.slice(s![1.., .., ..]), free, "no teacher, a free run");
            for mixed in [&alone, &half] {
                assert_eq!(mixed.index_axis(Axis(0), 0), teacher.index_axis(Axis(0), 0), "the first step");
            }
            let read = encoder.clone().with_decoder(Sequences::time_major(half.clone()));
            let output = network.forward(&read, None).unwrap().output;
            let tolerance = match *device {
                "cpu" => Tolerance::EXACT,
                _ => Tolerance::output(output_terms(&config)).times(2),
            };
            let mut taught = 0;
            for t in 1..6 {
                for row in 0..BATCH {
                    let found = half.slice(s![t, row, ..]);
                    if found == teacher.slice(s![t, row, ..]) {
                        taught += 1;
                        continue;
                    }
                    let own = output.slice(s![t - 1, row, ..]);
                    assert_array(&format!("step {t}, row {row}"), found, own, tolerance);
                }
            }
            assert!(taught > 0 && taught < 5 * BATCH, "{taught}");
        });
    }
    failures.finish();
}

#[track_caller]
fn assert_refused<T>(found: Result<T, Error>, expected: &str) {
    let found = found.err().map(|error| error.to_string());
    assert_eq!(found.as_deref(), Some(expected));
}

#[test]
fn generation_that_is_impossible_is_refused() {
    let wide = config(2, [GruConfig::new(4).into(), dense(3)]);
    let (values, words) = (value_translator(), translator(6));
    let embedded = config(1, [EmbeddingConfig::new(7, 4).into(), GruConfig::new(6).into(), dense(7)]);
    let known = config(1, [EmbeddingConfig::new(4, 4).into(), GruConfig::new(6).into(), dense(7)]);
    let one_hot = config(4, [GruConfig::new(6).into(), dense(4)]);
    let sequence = |width: usize| Sequences::time_major(Array3::zeros((2, 1, width)));
    let marks = Marks { begin: 0, end: 1, max_len: 3 };
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let open = |config: &NetworkConfig| network(device, config);
            assert_refused(
                open(&wide).closed_loop(sequence(2), 3),
                &format!("{wide}: 3 values come out and 2 go in; a closed loop needs as many out as in"),
            );
            assert_refused(
                open(&values).closed_loop(sequence(3), 3),
                "a decoder continues from its encoder; use Network::free_run",
            );
            assert_refused(
                open(&one_hot).closed_loop(sequence(4).with_lengths([1]).unwrap(), 3),
                "a closed loop continues after the last step; expected rows of one length",
            );
            assert_refused(
                open(&one_hot).free_run(sequence(4), Array2::zeros((1, 4)).view(), 3),
                &format!("{one_hot}: there is no decoder to encode for; use Network::forward"),
            );
            assert_refused(
                open(&wide).generate(array![[0u32]].view(), 3, &mut Sampler::greedy()),
                &format!("{wide}: it reads 2 values and writes 3 tokens; expected an embedding or 3 values"),
            );
            assert_refused(
                open(&known).generate(array![[0u32]].view(), 3, &mut Sampler::greedy()),
                &format!("{known}: it writes 7 tokens and its embedding knows 4; expected at least as many"),
            );
            for (config, most) in [(&embedded, 6), (&one_hot, 3)] {
                assert_refused(
                    open(config).generate(array![[0u32, most + 1]].view(), 3, &mut Sampler::greedy()),
                    &format!("prompt: expected token numbers, 0 to {most}, found {}", most + 1),
                );
            }
            let words = open(&words);
            let encoder = sentence();
            assert_refused(
                words.decode(&encoder, Marks { begin: 6, ..marks }, Decoding::Greedy),
                "the mark that begins a sequence: expected token numbers, 0 to 5, found 6",
            );
            assert_refused(
                words.decode(&encoder, marks, Decoding::Beam { width: 0, length_power: 0.0 }),
                "a beam of width 0 keeps no candidate; expected at least 1",
            );
            assert_refused(
                words.decode(&encoder, marks, Decoding::Beam { width: 2, length_power: f32::NAN }),
                "the length power is NaN; expected a finite number, 0 or more",
            );
            let teacher = Array2::zeros((2, BATCH));
            assert_refused(
                words.mix_teacher(&encoder, teacher.view(), 1.5, 0),
                "the teacher's ratio is 1.5; expected 0 to 1",
            );
            let translator = open(&values);
            let lesson = Array3::zeros((2, 1, 3));
            assert_refused(
                translator.mix_teacher_values(sequence(3), lesson.view(), f32::NAN, 0),
                "the teacher's ratio is NaN; expected 0 to 1",
            );
            assert_refused(
                translator.mix_teacher_values(sequence(3), lesson.view(), 0.5, 0),
                "teacher: expected [steps, batch 1, features 2], found [2, 1, 3]",
            );
            assert_refused(
                open(&wide).mix_teacher_values(sequence(2), lesson.view(), 0.5, 0),
                &format!("{wide}: there is no decoder to encode for; use Network::forward"),
            );
            assert_refused(
                words.mix_teacher(&encoder, (&teacher + 6).view(), 1.0, 0),
                "teacher: expected token numbers, 0 to 5, found 6",
            );
            assert_refused(
                words.mix_teacher(&encoder, Array2::zeros((1, 1)).view(), 1.0, 0),
                "teacher: expected [steps, batch 3], found [1, 1]",
            );
            assert_refused(
                words.decode(&encoder, Marks { end: 6, ..marks }, Decoding::Greedy),
                "the mark that ends a sequence: expected token numbers, 0 to 5, found 6",
            );
            let (width, length_power) = (usize::MAX / 2, 0.0);
            let endless = Marks { max_len: usize::MAX, ..marks };
            assert_refused(
                words.decode(&encoder, endless, Decoding::Beam { width, length_power }),
                &format!("a beam of width {width} for each of 3 rows; expected at most 16777216 candidates"),
            );
            let word = array![[0u32]];
            assert_refused(
                words.generate(word.view(), 1, &mut Sampler::greedy()),
                "a decoder writes from its encoder's states; use Network::decode",
            );
            let endless = usize::MAX;
            let too_many =
                format!("steps to write: expected as many as memory has room for, found {endless}");
            assert_refused(open(&embedded).generate(word.view(), endless, &mut Sampler::greedy()), &too_many);
            assert_refused(open(&one_hot).closed_loop(sequence(4), endless), &too_many);
            assert_refused(
                open(&embedded).generate(Array2::zeros((1, 0)).view(), 1, &mut Sampler::greedy()),
                "prompt: expected [steps, batch], none of them 0, found [1, 0]",
            );
        });
    }
    failures.finish();
}

/// If a network's logits say nothing about the next token, none is made up.
#[test]
fn nothing_is_written_from_poisoned_parameters() {
    let embedded = config(1, [EmbeddingConfig::new(7, 4).into(), GruConfig::new(6).into(), dense(7)]);
    let nothing = "logits of the next token, row 0: expected a number for at least one token, found NaN; look for NaN in \
                   the parameters and the input";
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let poisoned = |config: &NetworkConfig| {
                let mut network = network(device, config);
                let mut parameters = network.parameters().unwrap();
                parameters.get_mut("dense0.bias").unwrap().fill(f32::NAN);
                network.set_parameters(&parameters).unwrap();
                network
            };
            let prompt = array![[0u32]];
            for mut sampler in [Sampler::greedy(), Sampler::new(1)] {
                assert_refused(poisoned(&embedded).generate(prompt.view(), 3, &mut sampler), nothing);
            }
            let words = poisoned(&translator(6));
            let marks = Marks { begin: 0, end: 1, max_len: 3 };
            for decoding in [Decoding::Greedy, Decoding::Beam { width: 2, length_power: 0.0 }] {
                assert_refused(words.decode(sentence(), marks, decoding), nothing);
            }
            assert_refused(words.mix_teacher(sentence(), Array2::zeros((2, BATCH)).view(), 0.5, 0), nothing);
        });
    }
    failures.finish();
}

/// A beam needs no bound on its length if every row ends.
#[test]
fn a_beam_may_have_no_length_limit() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let mut words = network(opened, &translator(6));
            let mut parameters = words.parameters().unwrap();
            parameters.get_mut("dense0.bias").unwrap()[[1]] = 40.0;
            words.set_parameters(&parameters).unwrap();
            let marks = Marks { begin: 0, end: 1, max_len: usize::MAX };
            let beam = Decoding::Beam { width: 2, length_power: 0.0 };
            let written = words.decode(sentence(), marks, beam).unwrap();
            assert_eq!(written, vec![Vec::<u32>::new(); BATCH]);
        });
    }
    failures.finish();
}

/// A token whose logit is NaN is never written; the others still are.
#[test]
fn a_token_with_a_nan_logit_is_never_written() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let decode = |of_token: f32| {
                let mut words = network(opened, &translator(6));
                let mut parameters = words.parameters().unwrap();
                parameters.get_mut("dense0.bias").unwrap()[[2]] = of_token;
                words.set_parameters(&parameters).unwrap();
                let marks = Marks { begin: 0, end: 1, max_len: 5 };
                let beam = |width| Decoding::Beam { width, length_power: 1.0 };
                [Decoding::Greedy, beam(1), beam(3)].map(|way| words.decode(sentence(), marks, way).unwrap())
            };
            let found = decode(f32::NAN);
            assert_eq!(found, decode(f32::NEG_INFINITY));
            assert_eq!(found[0], found[1], "a beam of one candidate is greedy");
            assert!(found.iter().all(|rows| rows.iter().any(|row| !row.is_empty())), "{found:?}");
        });
    }
    failures.finish();
}

/// A beam has several streams per row; the error names the row.
#[test]
fn a_row_without_finite_logits_is_named() {
    let bridge = Bridge::Dense { activation: Activation::Identity };
    let decoder = DecoderConfig::new(4).bridge(bridge).into();
    let config = config(2, [GruConfig::new(3).into(), decoder, GruConfig::new(3).into(), dense(4)]);
    let mut values = Random::new(SEED, 4).sequence((2, BATCH, 2));
    values[[0, 1, 0]] = f32::NAN;
    let input = Sequences::time_major(values);
    let marks = Marks { begin: 0, end: 1, max_len: 3 };
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        for decoding in [Decoding::Greedy, Decoding::Beam { width: 3, length_power: 0.0 }] {
            failures.check(format!("{name}, {decoding:?}"), || {
                assert_refused(
                    network(device, &config).decode(&input, marks, decoding),
                    "logits of the next token, row 1: expected a number for at least one token, found NaN; \
                 look for NaN in the parameters and the input",
                );
            });
        }
    }
    failures.finish();
}

/// The logits of a row past its end do not matter while other rows go on.
#[test]
fn a_row_that_has_ended_may_have_nan_logits() {
    let relu = || LayerConfig::from(RnnConfig::new(2).activation(Activation::Relu).biases(Biases::None));
    let config = config(1, [relu(), DecoderConfig::new(3).into(), relu(), dense(3)]);
    let mut parameters = Parameters::zeros(&config).unwrap();
    let mut set = |name: &str, values: Array2<f32>| parameters.get_mut(name).unwrap().assign(&values);
    set("rnn0.weight_ih_l0", array![[1.0], [1.0]]);
    // A positive state overflows at the second step; then every logit is inf - inf.
    set("rnn1.weight_hh_l0", array![[1e30, 0.0], [0.0, 1e30]]);
    set("dense0.weight", array![[-1.0, 0.5], [-1.0, 0.5], [1.0, -0.5]]);
    let input = Sequences::time_major(array![[[1.0], [0.0]]]);
    let marks = Marks { begin: 0, end: 2, max_len: 6 };
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        let network = Network::with_parameters(opened, &config, &parameters).unwrap();
        for decoding in [Decoding::Greedy, Decoding::Beam { width: 1, length_power: 0.0 }] {
            failures.check(format!("{device}, {decoding:?}"), || {
                let found = network.decode(&input, marks, decoding).unwrap();
                assert_eq!(found, [vec![], vec![0; 6]]);
            });
        }
    }
    failures.finish();
}

/// A beam needs at most as many streams as there are sequences.
#[test]
fn a_beam_may_be_wider_than_all_sequences() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let words = network(opened, &translator(3));
            let marks = Marks { begin: 0, end: 2, max_len: 4 };
            let decode =
                |width| words.decode(sentence(), marks, Decoding::Beam { width, length_power: 1.0 }).unwrap();
            assert_eq!(decode(usize::MAX), decode(40));
        });
    }
    failures.finish();
}
