//! What a recurrent network is, without computing anything.
//!
//! A [`NetworkConfig`] describes a network: its input width and its layers. It can be printed, compared and
//! serialised, and it is checked when it is built. From it follow the named [`Parameters`] with PyTorch's names,
//! shapes and row order, and their initial values from a seed. [`mod@file`] reads and writes both.
//!
//! ```
//! use gatefold_model::{Activation, DenseConfig, LayerConfig, LstmConfig, NetworkConfig, Parameters};
//!
//! let config = NetworkConfig::new(28, [
//!     LstmConfig::new(128).into(),
//!     LstmConfig::new(128).into(),
//!     LayerConfig::LastStep,
//!     DenseConfig::new(10).activation(Activation::Identity).into(),
//! ])?;
//! let parameters = Parameters::initial(&config, 7);
//! assert_eq!(parameters["rnn0.weight_ih_l1"].shape(), [4 * 128, 128]);
//! assert_eq!(config.parameter_count(), 214_282);
//! # Ok::<(), gatefold_model::ModelError>(())
//! ```

mod activation;
mod config;
mod error;
pub mod file;
mod gate;
mod graph;
mod init;
mod layer;
mod parameter_names;
mod parameters;
mod recurrent;
mod recurrent_config;
mod resolve;
mod states;
mod training;

pub use activation::Activation;
pub use config::{Bridge, DecoderConfig, DenseConfig, EmbeddingConfig, Fill, LayerConfig, NetworkConfig};
pub use error::ModelError;
pub use gate::{GruGate, LstmGate};
pub use graph::{Graph, HandOver, InitialSource, Merge, Node, Source, StateFlow};
pub use init::Init;
pub use layer::{Layer, LayerKind, ParameterSpec, Role, StateKind, Timeline};
pub use parameters::Parameters;
pub use recurrent::{
    Biases, Cell, Coupling, Direction, Feedback, GruActivations, GruCell, InitialState, LstmActivations,
    LstmCell, Recurrent, Reset,
};
pub use recurrent_config::{GruConfig, LstmConfig, RnnConfig};
pub use states::{Dropout, LayerState, States};
pub use training::{
    Loss, Optimizer, ParameterGroup, ParameterRule, Reduction, Schedule, ScheduleState, TrainConfig,
    check_learning_rate,
};
