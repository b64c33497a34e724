//! A network one time step at a time.

#[cfg(feature = "gpu")]
use crate::gpu_network::GpuStream;
use crate::sequences::check_tokens;
use crate::{Error, Network};
use gatefold_cpu::States;
use gatefold_model::{Direction, InitialState, Layer, LayerKind, NetworkConfig, Parameters};
use ndarray::{Array2, ArrayView2, Axis};
use std::sync::Arc;

/// Many streams side by side through one network, a step at a time; the states stay on the device. Of an
/// encoder-decoder network it is the decoder that steps.
#[derive(Debug)]
pub struct Stream {
    batch: usize,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Cpu {
        states: States,
        identity: Arc<()>,
    },
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuStream>),
}

impl Network {
    /// Prepares steps of `batch` streams, from where the layers' descriptions say.
    ///
    /// # Errors
    /// [`Error::Config`] for a network with a layer that needs more than the steps so far; [`Error::Shape`] for no
    /// stream; on a GPU also [`Error::TooLarge`] and [`Error::OutOfMemory`].
    pub fn stream(&mut self, batch: usize) -> Result<Stream, Error> {
        check(self.config())?;
        if batch == 0 {
            let (what, expected) = ("streams".into(), "at least 1".into());
            return Err(Error::Shape { what, expected, found: "0".into() });
        }
        let kept = match self {
            Network::Cpu(network) => Kept::Cpu {
                states: States::zeros(network.config(), batch),
                identity: Arc::clone(&network.identity),
            },
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => Kept::Gpu(Box::new(network.stream(batch)?)),
        };
        let mut stream = Stream { batch, kept };
        stream.reset(self)?;
        Ok(stream)
    }
}

impl Stream {
    /// One step of every stream: `input [B, I]`, of a token its number, to `[B, O]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that does not fit; [`Error::Config`] for a network that did not make this stream;
    /// those of the device.
    pub fn step(&mut self, network: &mut Network, input: ArrayView2<f32>) -> Result<Array2<f32>, Error> {
        self.check_maker(network)?;
        let config = network.config();
        let width = config.decoder().map_or(config.input(), |at| config.layers()[at].output);
        if input.dim() != (self.batch, width) {
            return Err(Error::Shape {
                what: "input of a step".into(),
                expected: format!("[batch {}, features {width}]", self.batch),
                found: format!("{:?}", input.shape()),
            });
        }
        let reader = config.layers().get(config.decoder().map_or(0, |at| at + 1)).map(|layer| &layer.kind);
        check_tokens("input", input.insert_axis(Axis(0)), None, reader)?;
        match (network, &mut self.kept) {
            (Network::Cpu(network), Kept::Cpu { states, .. }) => network.step(states, input),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), Kept::Gpu(stream)) => network.step(stream, input),
            #[cfg(feature = "gpu")]
            _ => Err(of_another("device")),
        }
    }

    /// That this network made the stream.
    fn check_maker(&self, network: &Network) -> Result<(), Error> {
        let made = match (network, &self.kept) {
            (Network::Cpu(network), Kept::Cpu { identity, .. }) => Arc::ptr_eq(identity, &network.identity),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), Kept::Gpu(stream)) => Arc::ptr_eq(&stream.values, &network.values),
            #[cfg(feature = "gpu")]
            _ => return Err(of_another("device")),
        };
        if made { Ok(()) } else { Err(of_another("network")) }
    }

    /// The states behind the last step.
    ///
    /// # Errors
    /// Those of reading back from a GPU.
    pub fn states(&self) -> Result<States, Error> {
        match &self.kept {
            Kept::Cpu { states, .. } => Ok(states.clone()),
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => stream.states(),
        }
    }

    /// Goes on from other states, such as those of [`Network::forward`] or [`Network::encode`].
    ///
    /// # Errors
    /// [`Error::Config`] for states of another network or batch, and for a network that did not make this stream.
    pub fn set_states(&mut self, network: &Network, states: &States) -> Result<(), Error> {
        self.check_maker(network)?;
        network.check_states(self.batch, Some(states))?;
        match &mut self.kept {
            Kept::Cpu { states: kept, .. } => *kept = states.clone(),
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => stream.set_states(states)?,
        }
        Ok(())
    }

    /// Goes back to where the layers' descriptions say, learned states as the parameters are now.
    ///
    /// # Errors
    /// [`Error::Config`] for a network that did not make this stream; those of reading back from a GPU.
    pub fn reset(&mut self, network: &mut Network) -> Result<(), Error> {
        self.check_maker(network)?;
        let states = initial_states(network, self.batch)?;
        self.set_states(network, &states)
    }

    /// [`Stream::reset`] for some of the streams, by their rows; the others go on. It reads back the states of all.
    ///
    /// # Errors
    /// Those of [`Stream::reset`]; [`Error::Shape`] for a row that there is not, before any is changed.
    pub fn reset_rows(&mut self, network: &mut Network, rows: &[usize]) -> Result<(), Error> {
        self.check_maker(network)?;
        if let Some(row) = rows.iter().find(|row| **row >= self.batch) {
            let (what, expected) = ("stream to reset".into(), format!("0 to {}", self.batch - 1));
            return Err(Error::Shape { what, expected, found: row.to_string() });
        }
        let fresh = initial_states(network, 1)?;
        let mut states = self.states()?;
        for (layer, fresh) in states.layers.iter_mut().zip(&fresh.layers) {
            for &row in rows {
                layer.h.index_axis_mut(Axis(1), row).assign(&fresh.h.index_axis(Axis(1), 0));
                if let (Some(c), Some(fresh)) = (&mut layer.c, &fresh.c) {
                    c.index_axis_mut(Axis(1), row).assign(&fresh.index_axis(Axis(1), 0));
                }
                if let (Some(y), Some(fresh)) = (&mut layer.y, &fresh.y) {
                    y.row_mut(row).assign(&fresh.row(0));
                }
            }
        }
        self.set_states(network, &states)
    }

    /// How many streams there are.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

/// Where the layers' descriptions say that streams begin.
fn initial_states(network: &mut Network, batch: usize) -> Result<States, Error> {
    let recurrent = network.config().recurrent_layers().filter_map(Layer::recurrent);
    // Reading the parameters back takes time, and most networks have no start among them.
    let learned = recurrent.into_iter().any(|recurrent| recurrent.initial == InitialState::Learned);
    let parameters = if learned { network.parameters()? } else { Parameters::default() };
    Ok(States::initial(network.config(), &parameters, batch))
}

fn of_another(what: &str) -> Error {
    Error::Config(format!("the stream is of another {what}; use the network that made it"))
}

/// That every layer can do with the steps so far.
fn check(config: &NetworkConfig) -> Result<(), Error> {
    refuse_ahead(config, "so it cannot go step by step; use Network::forward")
}

/// That one batch can go on where another ended.
pub(crate) fn check_goes_on(config: &NetworkConfig) -> Result<(), Error> {
    if config.decoder().is_some() {
        return Err(Error::Config(format!(
            "{config}: a decoder starts from its encoder, not from a batch before"
        )));
    }
    refuse_ahead(
        config,
        "so it cannot go on where a batch ended; train on whole sequences, with Trainer::step_batch",
    )
}

/// Refuses a layer that needs more than the steps so far.
fn refuse_ahead(config: &NetworkConfig, advice: &str) -> Result<(), Error> {
    let begin = config.decoder().map_or(0, |at| at + 1);
    for layer in &config.layers()[begin..] {
        let problem = match layer.kind {
            LayerKind::Recurrent(recurrent) if recurrent.direction != Direction::Forward => {
                "it reads the sequence from its end"
            }
            LayerKind::Expand { .. } => "it makes several steps of one",
            _ => continue,
        };
        return Err(Error::Config(format!("{}: {problem}, {advice}", layer.place())));
    }
    Ok(())
}
