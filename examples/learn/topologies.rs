//! One kind of layer, many kinds of network.

use crate::parts::OUT;
use gatefold::layers::{DecoderConfig, DenseConfig, Direction, Expansion, GruConfig, LayerConfig};
use gatefold::{Device, Network, NetworkConfig};
use ndarray::Array3;
use std::error::Error;
use std::path::Path;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let gru = || GruConfig::new(4);
    let both = || gru().direction(Direction::Bidirectional);
    let dense = || LayerConfig::from(DenseConfig::new(2));
    let networks: [(&str, Vec<LayerConfig>); 6] = [
        ("many-to-many", vec![gru().into(), dense()]),
        ("both-ways", vec![both().into(), dense()]),
        ("many-to-one", vec![gru().into(), LayerConfig::LastStep, dense()]),
        (
            "one-to-many",
            vec![LayerConfig::Expand { steps: 5, fill: Expansion::Zeros }, gru().into(), dense()],
        ),
        ("around", vec![gru().into(), gru().into(), LayerConfig::Residual { from: 1 }, dense()]),
        ("encoder-decoder", vec![gru().into(), DecoderConfig::new(3).into(), gru().into(), dense()]),
    ];
    std::fs::create_dir_all(OUT)?;
    let device = Device::cpu()?;
    println!("{:<18}{:<12}{:<12}{:>10}", "topology", "input", "output", "parameters");
    for (name, layers) in networks {
        let config = NetworkConfig::new(3, layers)?;
        let network = Network::new(&device, &config, 1)?;
        let steps = if name == "one-to-many" { 1 } else { 5 };
        let input = Array3::<f32>::ones((steps, 1, 3));
        let output = match config.decoder() {
            Some(_) => {
                let sequences = gatefold::Sequences::from(&input);
                network.predict(sequences.with_decoder(Array3::<f32>::ones((4, 1, 3))))?
            }
            None => network.predict(&input)?,
        };
        let shape = |array: &Array3<f32>| format!("{:?}", array.shape());
        println!("{name:<18}{:<12}{:<12}{:>10}", shape(&input), shape(&output), config.parameter_count());
        network.save(Path::new(OUT).join(name).with_extension("safetensors"))?;
    }
    println!("\nmodels   {OUT}/*.safetensors");
    Ok(())
}
