use super::*;
use gatefold::NetworkConfig;
use gatefold::layers::{
    Activation, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, Expansion,
    GruConfig, InitialState, LayerConfig, LayerNorm, LstmConfig, ParallelConfig, RnnConfig,
};
use std::collections::BTreeMap;

fn dense(width: usize) -> LayerConfig {
    DenseConfig::new(width).activation(Activation::Relu).into()
}

fn gru(width: usize) -> GruConfig {
    GruConfig::new(width)
}

/// Networks of every topology, with their names.
fn networks() -> Vec<(&'static str, NetworkConfig)> {
    let net = |input: usize, layers: Vec<LayerConfig>| NetworkConfig::new(input, layers).unwrap();
    let both = Direction::Bidirectional;
    let merged = |merge, branches: Vec<Vec<LayerConfig>>| ParallelConfig::new(merge, branches).into();
    let linear = vec![Conv1dConfig::new(12, 24).into(), LayerConfig::LastStep];
    let recurrent = vec![gru(16).into(), LayerConfig::LastStep, DenseConfig::new(12).into()];
    let long = LstmConfig::new(512).peephole().layer_norm(LayerNorm::default()).zoneout(0.05).direction(both);
    vec![
        (
            "stack",
            net(
                1,
                vec![
                    LstmConfig::new(100).into(),
                    LstmConfig::new(100).into(),
                    LayerConfig::LastStep,
                    dense(100),
                    DenseConfig::new(100).into(),
                ],
            ),
        ),
        ("rnn", net(3, vec![RnnConfig::new(5).into(), DenseConfig::new(2).into(), LayerConfig::Softmax])),
        (
            "bidirectional",
            net(
                3,
                vec![
                    long.into(),
                    gru(8).direction(Direction::Reverse).into(),
                    LayerConfig::FinalState,
                    dense(1),
                ],
            ),
        ),
        (
            "final state of both",
            net(
                3,
                vec![
                    gru(8).direction(both).into(),
                    LayerConfig::FinalState,
                    DenseConfig::new(9).into(),
                    LayerConfig::Softmax,
                ],
            ),
        ),
        (
            "encoder in both directions",
            net(
                2,
                vec![
                    gru(8).direction(both).into(),
                    LstmConfig::new(8).direction(both).into(),
                    DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
                    LstmConfig::new(16).into(),
                    DenseConfig::new(4).into(),
                ],
            ),
        ),
        (
            "encoder-decoder",
            net(
                4,
                vec![
                    EmbeddingConfig::new(30, 8).into(),
                    gru(16).into(),
                    LstmConfig::new(16).into(),
                    DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
                    EmbeddingConfig::new(40, 8).into(),
                    gru(16).into(),
                    LstmConfig::new(24).into(),
                    DenseConfig::new(40).into(),
                ][1..]
                    .to_vec(),
            ),
        ),
        (
            "translator",
            net(
                1,
                vec![
                    EmbeddingConfig::new(30, 8).into(),
                    LstmConfig::new(16).into(),
                    DecoderConfig::new(1).into(),
                    EmbeddingConfig::new(40, 8).into(),
                    LstmConfig::new(16).into(),
                    DenseConfig::new(40).into(),
                    LayerConfig::Softmax,
                ],
            ),
        ),
        ("forecaster", net(3, vec![merged(Merge::Sum, vec![linear, recurrent])])),
        (
            "four branches",
            net(
                4,
                vec![
                    merged(
                        Merge::Concatenate,
                        vec![
                            vec![],
                            vec![gru(4).into(), gru(4).into()],
                            vec![merged(
                                Merge::Sum,
                                vec![vec![LstmConfig::new(3).into()], vec![RnnConfig::new(3).into()]],
                            )],
                            vec![dense(7)],
                        ],
                    ),
                    gru(5).into(),
                ],
            ),
        ),
        (
            "convolution in the second branch",
            net(
                2,
                vec![merged(
                    Merge::Concatenate,
                    vec![
                        vec![gru(4).into(), gru(4).into(), LayerConfig::LastStep],
                        vec![Conv1dConfig::new(3, 3).causal().into(), gru(3).into(), LayerConfig::LastStep],
                    ],
                )],
            ),
        ),
        (
            "residual",
            net(
                8,
                vec![
                    gru(8).into(),
                    gru(8).into(),
                    LayerConfig::Residual { from: 1 },
                    gru(8).into(),
                    LayerConfig::Residual { from: 0 },
                    LayerConfig::Dropout { rate: 0.1 },
                ],
            ),
        ),
        (
            "skip",
            net(
                2,
                vec![LstmConfig::new(6).skip(3).into(), gru(6).skip(12).into(), DenseConfig::new(1).into()],
            ),
        ),
        (
            "dilated",
            net(
                2,
                vec![
                    LstmConfig::new(6).into(),
                    LstmConfig::new(6).dilation(2).into(),
                    LayerConfig::Residual { from: 1 },
                    gru(6).dilation(12).into(),
                    DenseConfig::new(1).into(),
                ],
            ),
        ),
        (
            "feedback",
            net(
                2,
                vec![
                    RnnConfig::new(6)
                        .feedback(3, Activation::Identity)
                        .initial_state(InitialState::Learned)
                        .into(),
                ],
            ),
        ),
        (
            "convolutions",
            net(
                6,
                vec![
                    Conv1dConfig::new(8, 3).causal().into(),
                    Conv1dConfig::new(8, 3).stride(2).into(),
                    gru(9).initial_state(InitialState::Constant(0.5)).into(),
                    LayerConfig::LastStep,
                    dense(2),
                ],
            ),
        ),
        (
            "one to many",
            net(
                10,
                vec![
                    LayerConfig::Expand { steps: 5, fill: Expansion::Zeros },
                    gru(7).into(),
                    DenseConfig::new(3).into(),
                ],
            ),
        ),
        (
            "many to one to many",
            net(
                2,
                vec![
                    gru(7).into(),
                    LayerConfig::LastStep,
                    LayerConfig::Expand { steps: 30, fill: Expansion::Repeat },
                    LstmConfig::new(7).into(),
                    LayerConfig::Tied { to: 3 },
                    DenseConfig::new(3).into(),
                ],
            ),
        ),
    ]
}

fn diagram(config: &NetworkConfig, steps: usize) -> Diagram {
    let shaped = Shaped { config, steps, decoder_steps: steps / 2 + 1, batch: 32 };
    drawing(&shaped).unwrap()
}

/// The left, right, top and bottom of a rectangle.
type Area = (f64, f64, f64, f64);

fn apart(a: Area, b: Area) -> bool {
    a.1 <= b.0 || b.1 <= a.0 || a.3 <= b.2 || b.3 <= a.2
}

fn within(a: Area, b: Area) -> bool {
    b.0 <= a.0 && a.1 <= b.1 && b.2 <= a.2 && a.3 <= b.3
}

#[derive(Default)]
struct Areas {
    texts: Vec<(String, Area)>,
    boxes: Vec<Area>,
    /// Parts of wires, drawn below the boxes.
    parts: Vec<(Point, Point)>,
}

fn areas(diagram: &Diagram) -> Areas {
    let mut found = Areas::default();
    for shape in &diagram.shapes {
        match shape {
            Shape::Box { at, size, .. } => found.boxes.push((at.0, at.0 + size.0, at.1, at.1 + size.1)),
            Shape::Wire { points, .. } => {
                found.parts.extend(points.windows(2).map(|pair| (pair[0], pair[1])));
            }
            Shape::Text { at, anchor, text, size, .. } => {
                let width = Diagram::text_width(text, *size).unwrap();
                let left = match anchor {
                    Anchor::Start => at.0,
                    Anchor::Middle => at.0 - width / 2.0,
                    Anchor::End => at.0 - width,
                };
                let half = 0.45 * f64::from(*size);
                found.texts.push((text.clone(), (left, left + width, at.1 - half, at.1 + half)));
            }
        }
    }
    found
}

/// Whether a part of a wire goes through an area, touching its edge aside: the parts of the line between the area's sides,
/// left to right and top to bottom, overlap.
fn through((from, to): (Point, Point), area: Area) -> bool {
    let between = |from: f64, to: f64, low: f64, high: f64| {
        let (low, high) = (low + 0.5, high - 0.5);
        if (from - to).abs() < 1e-9 {
            return if low < from && from < high { (0.0, 1.0) } else { (1.0, 0.0) };
        }
        let (a, b) = ((low - from) / (to - from), (high - from) / (to - from));
        (a.min(b).max(0.0), a.max(b).min(1.0))
    };
    let (x, y) = (between(from.0, to.0, area.0, area.1), between(from.1, to.1, area.2, area.3));
    x.0.max(y.0) < x.1.min(y.1)
}

#[test]
fn nothing_in_a_drawing_collides() {
    let mut problems = Vec::new();
    for (name, config) in networks() {
        for steps in [1, 4, 5, 1000] {
            if config.check_steps(steps).is_err() {
                continue;
            }
            let diagram = diagram(&config, steps);
            let Areas { texts, boxes, parts } = areas(&diagram);
            let page = (0.0, f64::from(diagram.width), 0.0, f64::from(diagram.height));
            let mut say = |problem: String| problems.push(format!("{name}, {steps} steps: {problem}"));
            for (at, one) in boxes.iter().enumerate() {
                if !within(*one, page) || boxes[..at].iter().any(|other| !apart(*one, *other)) {
                    say(format!("box {one:?}"));
                }
                if let Some(part) = parts.iter().find(|part| through(**part, *one)) {
                    say(format!("wire {part:?} under box {one:?}"));
                }
            }
            for (at, (text, area)) in texts.iter().enumerate() {
                let inside = boxes.iter().any(|one| within(*area, *one));
                if !within(*area, page) || !inside && boxes.iter().any(|one| !apart(*area, *one)) {
                    say(format!("\"{text}\" {area:?} leaves its box or the page"));
                }
                for (other, place) in texts[..at].iter().filter(|(_, place)| !apart(*area, *place)) {
                    say(format!("\"{text}\" {area:?} over \"{other}\" {place:?}"));
                }
                if let Some(part) = parts.iter().find(|part| through(**part, *area)).filter(|_| !inside) {
                    say(format!("wire {part:?} through \"{text}\" {area:?}"));
                }
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems[..problems.len().min(40)].join("\n")
    );
}

#[test]
fn a_drawing_names_layers_shapes_and_parameters() {
    let config = NetworkConfig::with_input(1).lstm(32).last_step().dense(1).build().unwrap();
    let svg = diagram(&config, 24).svg().unwrap();
    for text in [
        "lstm 32",
        "[24, 32, 32]",
        "4,480 parameters",
        "[1, 32, 1]",
        "33 parameters",
        "x(1)",
        "x(24)",
        "h, c",
        "t−1",
    ] {
        assert!(svg.contains(text), "no \"{text}\" in {svg}");
    }
    // A box for each layer, three columns of the recurrent one, and one each of the others.
    assert_eq!(
        diagram(&config, 24).shapes.iter().filter(|shape| matches!(shape, Shape::Box { .. })).count(),
        3 + 3 + 2
    );
}

/// A layer that reads in both directions ends at the last step and at the first.
#[test]
fn a_decoder_begins_with_the_states_of_both_ends() {
    let networks = networks();
    let (_, config) = networks.iter().find(|(name, _)| *name == "encoder in both directions").unwrap();
    let mut starts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for shape in diagram(config, 6).shapes {
        if let Shape::Wire { points, color, .. } = shape
            && color == RECURRENCE
            && points.len() > 2
        {
            starts.entry(format!("{:?}", points.last())).or_default().push(points[0].0);
        }
    }
    let both: Vec<&Vec<f64>> = starts.values().filter(|starts| starts.len() > 1).collect();
    assert_eq!((both.len(), both.first().map(|starts| starts.len())), (1, Some(2)), "{starts:?}");
    assert!((both[0][0] - both[0][1]).abs() > 200.0, "{starts:?}");
}

#[test]
fn wires_are_found_in_areas() {
    let area = (10.0, 20.0, 10.0, 20.0);
    for (from, to, found) in [
        ((0.0, 15.0), (30.0, 15.0), true),
        ((15.0, 0.0), (15.0, 12.0), true),
        ((0.0, 0.0), (30.0, 30.0), true),
        ((0.0, 20.0), (30.0, 20.0), false),
        ((0.0, 15.0), (10.0, 15.0), false),
        ((0.0, 20.0), (10.0, 30.0), false),
    ] {
        assert_eq!(through((from, to), area), found, "{from:?} to {to:?}");
    }
}
