//! Pooling over time.

use std::fmt;

/// The value that pooling keeps of a row's own steps, for each feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

impl Pooling {
    /// `max` or `mean`.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Max => "max",
            Pooling::Mean => "mean",
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Expansion, LayerConfig, NetworkConfig, Parameters, Timeline, branch};

    fn refused(layers: &[LayerConfig]) -> String {
        NetworkConfig::new(2, layers).unwrap_err().to_string()
    }

    #[test]
    fn a_normalised_and_pooled_network_is_described_and_has_its_parameters() {
        let config = NetworkConfig::with_input(2)
            .lstm(3)
            .normalise()
            .max_pool()
            .layer(LayerConfig::Normalise { epsilon: 0.5 })
            .dense(1)
            .build()
            .unwrap();
        assert_eq!(
            config.to_string(),
            "2 -> lstm 3 -> normalise -> max pool -> normalise with epsilon 0.5 -> dense 1"
        );
        assert_eq!(config.layers()[2].timeline, Timeline::Single);
        let parameters = Parameters::initial(&config, 1).unwrap();
        for name in ["norm0", "norm1"] {
            let of = |leaf: &str| {
                parameters[format!("{name}.{leaf}").as_str()].iter().copied().collect::<Vec<f32>>()
            };
            assert_eq!((of("weight"), of("bias")), (vec![1.0; 3], vec![0.0; 3]), "{name}");
        }
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#"{"kind":"normalise","epsilon":0.00001},{"kind":"max_pool"}"#), "{text}");
        assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), config);
        let short = text.replace(r#","epsilon":0.00001"#, "");
        assert_eq!(serde_json::from_str::<NetworkConfig>(&short).unwrap(), config);
        let branches = NetworkConfig::with_input(2)
            .parallel(crate::Merge::Concatenate, [branch().max_pool(), branch().mean_pool()])
            .build()
            .unwrap();
        assert_eq!(branches.to_string(), "2 -> parallel concatenation (max pool | mean pool)");
    }

    #[test]
    fn pooling_needs_steps_and_normalisation_an_epsilon() {
        assert_eq!(
            refused(&[LayerConfig::MaxPool, LayerConfig::MeanPool]),
            "layer 1 (mean pool): there is only one step already; remove this layer"
        );
        let decoder = [
            crate::LstmConfig::new(2).into(),
            crate::DecoderConfig::new(2).into(),
            crate::LstmConfig::new(2).into(),
            LayerConfig::MaxPool,
        ];
        assert_eq!(
            refused(&decoder),
            "layer 3 (max pool): a decoder runs step by step; expected pooling before it"
        );
        for epsilon in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let found = refused(&[LayerConfig::Normalise { epsilon }]);
            let expected =
                format!("layer 0 (normalise): its epsilon is {epsilon}; expected a finite number above 0");
            assert_eq!(found, expected);
        }
        let expand = LayerConfig::Expand { steps: 3, fill: Expansion::Repeat };
        assert!(NetworkConfig::new(2, [expand, LayerConfig::MeanPool]).is_ok());
    }

    #[test]
    fn sequences_that_are_pooled_are_not_cut_into_chunks() {
        let config = NetworkConfig::with_input(2).lstm(3).normalise().mean_pool().build().unwrap();
        let problem = crate::TrainConfig::new().recompute(Some(4)).check(&config).unwrap_err().to_string();
        assert_eq!(
            problem,
            "recompute: layer 2 (mean pool): it reads all steps of a row, so sequences cannot be cut into chunks; leave the \
             option out"
        );
        config.check_forward_mode().unwrap();
    }
}
