//! Descriptions of recurrent networks, without any computation.
//!
//! A [`NetworkConfig`] describes a network: its input width and its layers. It can be printed, compared and serialised,
//! and is checked when it is built. From it follow the layer [`Graph`] and the [`Parameters`], with PyTorch's names,
//! shapes and row order and with initial values from a seed. [`mod@file`] reads and writes descriptions and parameters.
//!
//! ```
//! use gatefold_model::{GruConfig, NetworkConfig, Parameters};
//!
//! let config = NetworkConfig::with_input(28)
//!     .lstm(128)
//!     .lstm(128)
//!     .layer(GruConfig::new(64).bidirectional())
//!     .last_step()
//!     .dense(10)
//!     .build()?;
//! assert_eq!(config.to_string(), "28 -> lstm 128 -> lstm 128 -> gru 64 bidirectional -> last step -> dense 10");
//!
//! let parameters = Parameters::initial(&config, 7).unwrap();
//! assert_eq!(parameters["rnn0.weight_ih_l1"].shape(), [4 * 128, 128]);
//! assert_eq!(config.parameter_count(), 288_778);
//! # Ok::<(), gatefold_model::ModelError>(())
//! ```

mod activation;
mod builder;
mod cell_kind;
mod config;
mod convolution;
mod custom;
mod error;
pub mod file;
mod forward_mode;
mod gate;
mod graph;
mod init;
mod layer;
mod noise;
mod parallel;
mod parameter_names;
mod parameters;
mod pool;
mod recurrent;
mod recurrent_config;
mod resolve;
mod states;
mod training;

pub use activation::Activation;
pub use builder::{BranchBuilder, NetworkBuilder, branch};
pub use cell_kind::CellKind;
pub use config::{
    Bridge, DecoderConfig, DenseConfig, EmbeddingConfig, Expansion, LayerConfig, NetworkConfig,
};
pub use convolution::{Conv1d, Conv1dConfig, Padding, Timing};
pub use custom::{
    CUSTOM_LANES, CustomCell, CustomGate, CustomParts, UnitBackward, UnitForward, UnitFunctions,
    UnitGradient, UnitStep,
};
pub use error::ModelError;
pub use gate::{GruGate, LstmGate};
pub use graph::{Graph, HandOver, InitialSource, Merge, Node, Source, StateFlow};
pub use init::Init;
pub use layer::{Layer, LayerKind, ParameterSpec, Role, StateKind, Timeline};
pub use noise::{Noise, NoiseKind};
pub use parallel::ParallelConfig;
pub use parameters::Parameters;
pub use pool::Pooling;
pub use recurrent::{
    Biases, Cell, Coupling, Direction, Feedback, GruActivations, GruCell, InitialState, LayerNorm,
    LstmActivations, LstmCell, Recurrent, Reset,
};
pub use recurrent_config::{CustomConfig, GruConfig, LstmConfig, RnnConfig};
pub use states::{Dropout, LayerState, States};
pub use training::{
    Loss, Optimizer, ParameterGroup, ParameterRule, Reduction, Schedule, ScheduleState, TrainConfig,
    check_learning_rate,
};
