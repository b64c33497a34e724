//! A network on the CPU.

use super::device::Cpu;
use crate::{Error, Sequences};
use gatefold_cpu::{Batch, Gradients, Network, Tape};
use gatefold_model::{Dropout, NetworkConfig, Parameters, States};
use ndarray::{Array3, ArrayD, ArrayView2, ArrayView3, ArrayViewMut2};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A network on the CPU. Several passes may read it at once; an update waits for them.
#[derive(Debug)]
pub(crate) struct CpuNetwork {
    pub(crate) config: NetworkConfig,
    pub(crate) cpu: Cpu,
    network: RwLock<Network>,
    /// The number of changes to the parameters so far.
    changes: AtomicU64,
}

/// A forward pass that was run, and the network that ran it.
#[derive(Debug)]
pub(crate) struct CpuTape {
    pub(crate) tape: Tape,
    network: Arc<CpuNetwork>,
    changes: u64,
}

impl CpuNetwork {
    pub(crate) fn new(config: &NetworkConfig, parameters: &Parameters, cpu: Cpu) -> Result<Self, Error> {
        let network = Network::new(config, parameters, cpu.threads)?.with_instructions(cpu.instructions);
        let network = RwLock::new(network);
        Ok(CpuNetwork { config: config.clone(), cpu, network, changes: AtomicU64::new(0) })
    }

    /// The network, to compute with.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Network> {
        self.network.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network, to change its parameters; tapes made before are stale from then on.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Network> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.network.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn parameters(&self) -> Parameters {
        self.read().parameters().clone().into_iter().collect()
    }

    pub(crate) fn set_parameters(&self, parameters: &Parameters) -> Result<(), Error> {
        parameters.check(&self.config)?;
        for (name, tensor) in self.write().parameters_mut() {
            tensor.assign(&parameters[name]);
        }
        Ok(())
    }

    /// Outputs and final states.
    pub(crate) fn forward(&self, input: &Sequences<'_>, states: Option<&States>) -> (Array3<f32>, States) {
        self.read().infer(&batch_of(input, states, None))
    }

    /// Outputs alone.
    pub(crate) fn predict(&self, input: &Sequences<'_>, states: Option<&States>) -> Array3<f32> {
        self.read().predict(&batch_of(input, states, None))
    }

    /// Like [`CpuNetwork::forward`], and keeps everything that backward needs.
    pub(crate) fn forward_training(
        self: &Arc<Self>,
        input: &Sequences<'_>,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> CpuTape {
        let changes = self.changes.load(Ordering::SeqCst);
        let tape = self.read().forward(&batch_of(input, states, dropout));
        CpuTape { tape, network: Arc::clone(self), changes }
    }

    /// The derivative of a tape's output along a direction in parameters and input.
    pub(crate) fn jvp(
        &self,
        tape: &CpuTape,
        direction: &Parameters,
        input: Option<ArrayView3<'_, f32>>,
    ) -> Result<Array3<f32>, Error> {
        let standard = |tensor: &ArrayD<f32>| tensor.as_standard_layout().into_owned();
        let tangents = direction.iter().map(|(name, tensor)| (name.to_owned(), standard(tensor))).collect();
        Ok(self.read().jvp(&tape.tape, &tangents, input)?)
    }

    /// The decoder's initial states.
    pub(crate) fn encode(&self, input: &Sequences<'_>) -> Result<States, Error> {
        Ok(self.read().encode(&batch_of(input, None, None))?)
    }

    /// Advances streams and their states by one step.
    pub(crate) fn step(
        &self,
        states: &mut States,
        input: ArrayView2<f32>,
        output: ArrayViewMut2<f32>,
    ) -> Result<(), Error> {
        Ok(self.read().step_into(states, input, output)?)
    }
}

impl CpuTape {
    /// Whether this network made the tape.
    pub(crate) fn is_of(&self, network: &Arc<CpuNetwork>) -> bool {
        Arc::ptr_eq(&self.network, network)
    }

    /// Whether the parameters are still those of its forward pass.
    pub(crate) fn is_current(&self) -> bool {
        self.changes == self.network.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn backward(
        self,
        d_output: Option<ArrayView3<'_, f32>>,
        d_states: Option<&States>,
    ) -> Gradients {
        let zeros = match d_output {
            Some(_) => None,
            None => Some(Array3::zeros(self.tape.output().dim())),
        };
        let d_output = d_output.or(zeros.as_ref().map(|zeros| zeros.view())).expect("one of them is there");
        self.network.read().backward(self.tape, d_output, d_states)
    }
}

pub(super) fn batch_of<'a>(
    input: &'a Sequences<'_>,
    states: Option<&'a States>,
    dropout: Option<Dropout>,
) -> Batch<'a> {
    let decoder = input.decoder().map(|own| (own.values(), own.lengths()));
    Batch { input: input.values(), lengths: input.lengths(), states, decoder, dropout }
}
