//! Networks with parallel branches: how they are written, resolved, connected and refused.

use gatefold_model::{
    BranchBuilder, Conv1dConfig, GruConfig, LayerConfig, LayerKind, LstmConfig, Merge, NetworkBuilder,
    NetworkConfig, ParallelConfig, Source, branch,
};
use gatefold_reference::Failures;

fn nested() -> NetworkConfig {
    let inner = [branch().dense(3), branch().last_step().parallel(Merge::Sum, [branch().dense(2), branch()])];
    let inner = ParallelConfig::new(Merge::Concatenate, [inner[0].clone().last_step(), inner[1].clone()]);
    NetworkConfig::with_input(2)
        .parallel(Merge::Sum, [branch().lstm(5).lstm(5).final_state(), branch().layer(inner)])
        .lstm(5)
        .build()
        .unwrap()
}

#[test]
fn a_network_is_its_branches_one_after_another() {
    let config = nested();
    let kinds: Vec<&str> = config.layers().iter().map(|layer| layer.kind.name()).collect();
    let (sum, concatenation) = ("parallel sum", "parallel concatenation");
    assert_eq!(
        kinds,
        [
            "lstm",
            "lstm",
            "final state",
            "dense",
            "last step",
            "last step",
            "dense",
            sum,
            concatenation,
            sum,
            "lstm"
        ]
    );
    assert!(config.layers().iter().enumerate().all(|(at, layer)| layer.index == at));
    let widths: Vec<(usize, usize)> = config.layers().iter().map(|l| (l.input, l.output)).collect();
    assert_eq!(
        widths[3..],
        [(2, 3), (3, 3), (2, 2), (2, 2), (2, 2), (2, 5), (2, 5), (5, 5)],
        "a merge's input is that of its branches"
    );
    assert_eq!(
        config.to_string(),
        "2 -> parallel sum (lstm 5 -> lstm 5 -> final state | parallel concatenation (dense 3 -> last step | \
         last step -> parallel sum (dense 2 | identity))) -> lstm 5"
    );
}

#[test]
fn branches_read_one_value_and_their_ends_meet() {
    let config = nested();
    let graph = config.graph();
    let inputs: Vec<&[Source]> = graph.nodes().iter().map(|node| node.inputs.as_slice()).collect();
    use Source::{FinalHidden, Input, Output};
    let expected: [&[Source]; 11] = [
        &[Input],
        &[Output(0)],
        &[FinalHidden(1)],
        &[Input],
        &[Output(3)],
        &[Input],
        &[Output(5)],
        &[Output(6), Output(5)],
        &[Output(4), Output(7)],
        &[Output(2), Output(8)],
        &[Output(9)],
    ];
    assert_eq!(inputs, expected);
    let merges = [7, 8, 9].map(|layer| graph.node(layer).merge);
    assert_eq!(merges, [Merge::Sum, Merge::Concatenate, Merge::Sum]);
    assert_eq!(graph.readers(Input), [0, 3, 5]);
    assert_eq!(graph.readers(Output(5)), [6, 7]);
    assert_eq!(graph.readers(FinalHidden(1)), [2]);
    let numbers: Vec<usize> =
        graph.nodes().iter().filter_map(|node| Some(node.states.as_ref()?.number)).collect();
    assert_eq!(numbers, [0, 1, 2], "states are in the order of the layers");
}

#[test]
fn a_stack_ends_with_its_branch() {
    let lstm = || branch().lstm(4);
    let config =
        NetworkConfig::with_input(4).lstm(4).parallel(Merge::Sum, [lstm(), lstm()]).lstm(4).build().unwrap();
    let names: Vec<&str> = config
        .parameter_specs()
        .map(|spec| spec.name.as_str())
        .filter(|name| name.contains("weight_ih"))
        .collect();
    let own = |stack: usize| format!("rnn{stack}.weight_ih_l0");
    assert_eq!(names, [0, 1, 2, 3].map(own));
}

#[test]
fn a_residual_adds_what_arrived_in_its_branch() {
    let config = NetworkConfig::with_input(3)
        .dense(3)
        .parallel(Merge::Sum, [branch().gru(3).residual(1), branch().gru(3).gru(3).residual(4)])
        .residual(6)
        .build()
        .unwrap();
    let graph = config.graph();
    assert_eq!(graph.node(2).inputs, [Source::Output(1), Source::Output(0)]);
    assert_eq!(graph.node(5).inputs, [Source::Output(4), Source::Output(3)]);
    assert_eq!(graph.node(7).inputs, [Source::Output(6), Source::Output(0)], "the input of the branches");
}

#[test]
fn files_have_branches_as_lists() {
    let branches = [branch().last_step().softmax(), branch().last_step()];
    let config = NetworkConfig::with_input(4).parallel(Merge::Sum, branches).build().unwrap();
    let text = concat!(
        r#"{"input":4,"layers":[{"kind":"parallel","merge":"sum","branches":["#,
        r#"[{"kind":"last_step"},{"kind":"softmax"}],[{"kind":"last_step"}]]}]}"#
    );
    assert_eq!(serde_json::to_string(&config).unwrap(), text);
    assert_eq!(serde_json::from_str::<NetworkConfig>(text).unwrap(), config);
    let nested = nested();
    let text = serde_json::to_string(&nested).unwrap();
    assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), nested);
    let broken = text.replacen(r#""output":3"#, r#""output":4"#, 1);
    let error = serde_json::from_str::<NetworkConfig>(&broken).unwrap_err().to_string();
    assert!(error.contains("layer 9 (parallel sum): branch 0 ends with"), "{error}");
}

#[test]
fn branches_are_nested_no_deeper_than_files_can_be_read() {
    let nested = |depth: usize| {
        let inner =
            (1..depth).fold(branch().dense(2), |inner, _| branch().parallel(Merge::Sum, [inner, branch()]));
        NetworkConfig::with_input(2).parallel(Merge::Sum, [inner, branch()]).build()
    };
    let deepest = nested(16).unwrap();
    let text = serde_json::to_string(&deepest).unwrap();
    assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), deepest);
    assert_eq!(
        nested(17).unwrap_err().to_string(),
        "layer 0 (parallel sum): branches are nested more than 16 deep; expected fewer"
    );
}

#[test]
fn a_list_of_layers_makes_what_a_builder_does() {
    let list: Vec<LayerConfig> = vec![GruConfig::new(3).into(), LayerConfig::LastStep];
    let by_list = ParallelConfig::new(Merge::Concatenate, [list, vec![LayerConfig::LastStep]]);
    let by_list = NetworkConfig::new(2, [LayerConfig::from(by_list)]).unwrap();
    let built = NetworkConfig::with_input(2)
        .parallel(Merge::Concatenate, [branch().gru(3).last_step(), branch().last_step()])
        .build();
    assert_eq!(built.unwrap(), by_list);
    let LayerKind::Merge(Merge::Concatenate) = by_list.layers()[3].kind else {
        panic!("the merge comes last")
    };
}

#[test]
fn branches_that_do_not_fit_are_named() {
    let network = || NetworkConfig::with_input(3);
    let (sum, concatenate) = (Merge::Sum, Merge::Concatenate);
    let mut failures = Failures::new();
    let mut check = |built: NetworkBuilder, expected: &str| {
        failures.check(expected, || assert_eq!(built.build().unwrap_err().to_string(), expected));
    };
    check(
        network().parallel(sum, [branch().gru(4).last_step().dense(2), branch().dense(2)]),
        "layer 4 (parallel sum): branch 0 ends with one step of 2 values, branch 1 with the steps of the input of 2 \
         values; expected equal time axes",
    );
    check(
        network().parallel(concatenate, [branch(), branch().last_step()]),
        "layer 1 (parallel concatenation): branch 0 ends with the steps of the input of 3 values, branch 1 with one \
         step of 3 values; expected equal time axes",
    );
    let strided = || branch().layer(Conv1dConfig::new(3, 4).stride(3));
    check(
        network().parallel(sum, [strided(), branch().conv1d(3, 2)]),
        "layer 2 (parallel sum): branch 0 ends with floor((T - 1) / 3) steps for the T of the input of 3 values, \
         branch 1 with T - 1 steps for the T of the input of 3 values; expected equal time axes",
    );
    check(
        network().parallel(sum, [branch().dense(3), branch(), branch().dense(2)]),
        "layer 2 (parallel sum): branch 0 ends with the steps of the input of 3 values, branch 2 with the steps of \
         the input of 2 values; expected equal widths",
    );
    check(
        network().parallel(sum, [branch().dense(3)]),
        "layer 1 (parallel sum): its number of branches is 1; expected 2 or more",
    );
    check(
        network().parallel(concatenate, [branch(), branch().dense(3), branch()]),
        "layer 1 (parallel concatenation): branches 0 and 2 have no layers; expected at most one such branch",
    );
    check(
        network().lstm(3).parallel(sum, [branch().layer(decoder()).lstm(3), branch()]),
        "layer 1 (decoder): a decoder begins the second half of a network; expected it outside of branches",
    );
    check(
        network().parallel(sum, [branch().gru(3), branch().residual(0)]),
        "layer 1 (residual): it adds the input of layer 0 (gru), which is in another branch",
    );
    check(
        network().parallel(sum, [branch().gru(3), branch()]).residual(0),
        "layer 2 (residual): it adds the input of layer 0 (gru), which is in another branch",
    );
    check(
        NetworkConfig::with_input(1).parallel(sum, [branch().embedding(5, 2), branch().dense(2)]),
        "layer 0 (embedding): it reads token numbers; expected it before all other layers",
    );
    check(
        network().parallel(sum, [branch().expand(4, gatefold_model::Expansion::Zeros), branch()]),
        "layer 0 (expand): it expands one step; expected it first, or after a last step or final state",
    );
    check(
        network().parallel(sum, [branch().final_state(), branch().last_step()]),
        "layer 0 (final state): it keeps the final state of the layer before it; expected a recurrent one there",
    );
    check(
        network().lstm(3).parallel(concatenate, [branch(), branch().gru(2)]).layer(decoder()).lstm(3),
        "layer 3 (decoder): a decoder takes the states of recurrent layers; expected a recurrent layer as the \
         encoder's last",
    );
    let wide = || branch().layer(LstmConfig::new(1 << 24));
    check(
        network().parallel(concatenate, [wide(), branch()]),
        "layer 1 (parallel concatenation): its width is 16777219; expected at most 16777216",
    );
    failures.finish();
}

#[test]
fn convolutions_need_the_steps_that_their_own_branch_leaves() {
    let strided = branch().layer(Conv1dConfig::new(5, 3).stride(3));
    let config = |first: BranchBuilder, kernel: usize| {
        let branches = [first.last_step().dense(2), branch().conv1d(2, kernel).last_step()];
        NetworkConfig::with_input(4).parallel(Merge::Sum, branches).build().unwrap()
    };
    let check = |config: &NetworkConfig, least: usize, layer: usize| {
        let expected = format!("at least {least} steps for layer {layer} (conv1d)");
        assert_eq!(config.check_steps(least - 1), Err(expected));
        assert_eq!(config.check_steps(least), Ok(()));
    };
    check(&config(strided.clone(), 9), 9, 3);
    check(&config(strided.clone(), 2), 3, 0);
    check(&config(strided.gru(3).conv1d(2, 2), 4), 6, 2);
    check(&config(branch().gru(3), 4), 4, 3);
}

fn decoder() -> gatefold_model::DecoderConfig {
    gatefold_model::DecoderConfig::new(2)
}
