//! A network on a GPU: parameters in buffers, and a plan for each kind of pass, made once and replayed.

use super::prepared::{Cache, Kept, Prepared, read_chunks, write_chunks};
use super::{DeviceBuffer, Gpu, SharedBuffers, Steps};
use crate::{Error, Sequences};
use gatefold_model::{Dropout, NetworkConfig, Parameters, States};
use gatefold_schedule::layer::Purpose;
use gatefold_schedule::pass::{self, Axis, InitialFrom, Part, Pass, PassPlan, Shape};
use gatefold_schedule::{Given, Half, ParameterLayout, StateLayout, StateSet, Target};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A network on a GPU.
#[derive(Debug)]
pub(crate) struct GpuNetwork {
    pub(crate) gpu: Gpu,
    pub(crate) config: NetworkConfig,
    pub(crate) layout: ParameterLayout,
    pub(crate) values: Vec<Arc<DeviceBuffer>>,
    pub(crate) shared: SharedBuffers,
    packing: Mutex<Packing>,
    /// The number of changes to the parameters so far.
    changes: AtomicU64,
    inference: Cache,
    /// Plans for training that no tape holds at the moment.
    tapes: Cache,
}

/// The packed weights.
#[derive(Debug, Default)]
struct Packing {
    plan: Option<Prepared>,
    /// The number of changes that they include; `None` before the first packing.
    seen: Option<u64>,
}

/// A forward pass that was run, with everything that backward needs; it holds its own plan and buffers.
#[derive(Debug)]
pub(crate) struct GpuTape {
    network: Arc<GpuNetwork>,
    prepared: Prepared,
    pass: Pass,
    changes: u64,
}

/// The gradients of a pass, on the device until they are read.
#[derive(Debug)]
pub(crate) struct GpuGradients {
    pub(crate) network: Arc<GpuNetwork>,
    prepared: Option<Prepared>,
    pass: Pass,
}

impl GpuNetwork {
    pub(crate) async fn new(
        gpu: &Gpu,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<Self, Error> {
        parameters.check(config)?;
        pass::check_parameters(config, gpu.target())?;
        let layout = ParameterLayout::new(config, gpu.target());
        let shared = SharedBuffers::default();
        let values = shared.chunks(gpu, &layout, Given::Parameters).await?;
        write_chunks(&values, &layout.flatten(parameters)).await?;
        Ok(GpuNetwork {
            gpu: gpu.clone(),
            config: config.clone(),
            layout,
            values,
            shared,
            packing: Mutex::default(),
            changes: AtomicU64::new(0),
            inference: Cache::default(),
            tapes: Cache::default(),
        })
    }

    pub(crate) async fn parameters(&self) -> Result<Parameters, Error> {
        Ok(self.layout.unflatten(&read_chunks(&self.layout, &self.values).await?))
    }

    pub(crate) async fn set_parameters(&self, parameters: &Parameters) -> Result<(), Error> {
        parameters.check(&self.config)?;
        write_chunks(&self.values, &self.layout.flatten(parameters)).await?;
        self.parameters_changed();
        Ok(())
    }

    /// Marks packed weights and tapes as older than the parameters.
    pub(crate) fn parameters_changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a prepared pass out of a cache, or makes a new one.
    async fn prepared(
        &self,
        cache: &Cache,
        pass: &Pass,
        plan: impl FnOnce(&Target) -> Result<PassPlan, gatefold_schedule::Error>,
    ) -> Result<Prepared, Error> {
        match cache.take(pass) {
            Some(prepared) => Ok(prepared),
            None => Prepared::new(&self.gpu, &plan(self.gpu.target())?, &self.shared).await,
        }
    }

    /// Outputs and, if wanted, final states; for an encoder alone, also the decoder's initial states.
    pub(crate) async fn forward(
        &self,
        part: Part,
        input: &Sequences<'_>,
        states: Option<&States>,
        finals: bool,
    ) -> Result<(Option<Array3<f32>>, Option<States>), Error> {
        self.pack().await?;
        let pass = Pass { part, initial: source(states), ..Pass::whole(shape_of(part, input)) };
        let layout = StateLayout::new(&self.config, pass.shape.batch);
        let plan = |target: &Target| pass::predict(&self.config, target, &pass, true);
        let mut prepared = self.prepared(&self.inference, &pass, plan).await?;
        upload(&prepared, input, None).await?;
        if let Some(states) = states {
            prepared.write(&layout.given(StateSet::Initial), &layout.flatten(states)).await?;
        }
        prepared.run(&self.gpu, &self.shared, Steps::All, plan).await?;
        let output = prepared.sequence(&Given::Output).await?;
        let found = if finals { prepared.read(&layout.given(StateSet::Final)).await? } else { None };
        self.inference.put(pass, prepared);
        Ok((output, found.map(|flat| layout.unflatten(&flat))))
    }

    /// Runs forward and keeps what backward needs.
    pub(crate) async fn forward_training(
        self: &Arc<Self>,
        input: &Sequences<'_>,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Result<(GpuTape, Array3<f32>, States), Error> {
        let shape = shape_of(Part::Whole, input);
        let pass = Pass { initial: source(states), dropout: dropout.is_some(), ..Pass::whole(shape) };
        let layout = StateLayout::new(&self.config, pass.shape.batch);
        let plan = |target: &Target| pass::tape(&self.config, target, &pass);
        let mut prepared = self.prepared(&self.tapes, &pass, plan).await?;
        upload(&prepared, input, dropout).await?;
        if let Some(states) = states {
            prepared.write(&layout.given(StateSet::Initial), &layout.flatten(states)).await?;
        }
        let changes = self.changes.load(Ordering::SeqCst);
        prepared.run(&self.gpu, &self.shared, Steps::BeforeMark, plan).await?;
        let output = prepared.sequence(&Given::Output).await?.expect("the whole network has an output");
        let finals = prepared.read(&layout.given(StateSet::Final)).await?;
        let finals = finals.map_or_else(States::default, |flat| layout.unflatten(&flat));
        Ok((GpuTape { network: Arc::clone(self), prepared, pass, changes }, output, finals))
    }

    /// Like [`GpuNetwork::forward_training`] from the configured states, and the tangent of the output along a direction in
    /// parameters and input.
    pub(crate) async fn forward_tangent(
        self: &Arc<Self>,
        input: &Sequences<'_>,
        direction: &Parameters,
        input_tangent: Option<ArrayView3<'_, f32>>,
    ) -> Result<(GpuTape, Array3<f32>, States, Array3<f32>), Error> {
        let shape = shape_of(Part::Whole, input);
        let pass = Pass { tangent: true, ..Pass::whole(shape) };
        let layout = StateLayout::new(&self.config, pass.shape.batch);
        let plan = |target: &Target| pass::tape(&self.config, target, &pass);
        let mut prepared = self.prepared(&self.tapes, &pass, plan).await?;
        upload(&prepared, input, None).await?;
        for (chunk, values) in self.layout.flatten(direction).iter().enumerate() {
            prepared.write(&Given::Tangents(chunk), values).await?;
        }
        let zeros = Array3::zeros(input.values().dim());
        let input_tangent = input_tangent.unwrap_or(zeros.view());
        prepared.write_sequence(&Given::InputTangent(Half::Input), input_tangent).await?;
        let changes = self.changes.load(Ordering::SeqCst);
        prepared.run(&self.gpu, &self.shared, Steps::BeforeMark, plan).await?;
        let output = prepared.sequence(&Given::Output).await?.expect("the whole network has an output");
        let tangent = prepared.sequence(&Given::OutputTangent).await?.expect("the pass has tangents");
        let finals = prepared.read(&layout.given(StateSet::Final)).await?;
        let finals = finals.map_or_else(States::default, |flat| layout.unflatten(&flat));
        Ok((GpuTape { network: Arc::clone(self), prepared, pass, changes }, output, finals, tangent))
    }

    /// Packs the weights if the parameters have changed since the last time.
    async fn pack(&self) -> Result<(), Error> {
        let lock = || self.packing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.changes.load(Ordering::SeqCst);
        let plan = {
            let mut packing = lock();
            if packing.seen == Some(now) {
                return Ok(());
            }
            packing.plan.take()
        };
        let prepared = match plan {
            Some(prepared) => prepared,
            None => {
                let plan = pass::packing(&self.config, self.gpu.target(), Purpose::Inference);
                let planned = PassPlan { plan, uploads: Vec::new(), reads: Vec::new() };
                Prepared::new(&self.gpu, &planned, &self.shared).await?
            }
        };
        prepared.compiled.submit().await?;
        *lock() = Packing { plan: Some(prepared), seen: Some(now) };
        Ok(())
    }

    /// Streams, one step at a time or several.
    pub(crate) async fn stream(self: &Arc<Self>, batch: usize) -> Result<GpuStream, Error> {
        let (pass, planned) = pass::stream(&self.config, self.gpu.target(), batch, 1)?;
        let prepared = Prepared::new(&self.gpu, &planned, &self.shared).await?;
        let layout = StateLayout::new(&self.config, batch);
        Ok(GpuStream { network: Arc::clone(self), prepared, pass, layout, longer: Kept::default() })
    }

    /// The number of kernels that a prediction of this shape starts, without packing.
    pub(crate) fn inference_dispatches(&self, steps: usize, batch: usize) -> Result<usize, Error> {
        let pass = Pass::whole(Shape::plain(&self.config, steps, batch));
        Ok(pass::predict(&self.config, self.gpu.target(), &pass, false)?.plan.dispatches())
    }
}

impl GpuTape {
    /// Whether this network made the tape.
    pub(crate) fn is_of(&self, network: &Arc<GpuNetwork>) -> bool {
        Arc::ptr_eq(&self.network, network)
    }

    /// Whether the parameters are still those of its forward pass.
    pub(crate) fn is_current(&self) -> bool {
        self.changes == self.network.changes.load(Ordering::SeqCst)
    }

    /// Returns the plan and its buffers to the network, for its next tape.
    pub(crate) fn give_back(self) {
        let GpuTape { network, prepared, pass, .. } = self;
        network.tapes.put(pass, prepared);
    }

    /// Computes all gradients from those with respect to the outputs and the final states; `None` means zeros.
    pub(crate) async fn backward(
        self,
        d_output: Option<ArrayView3<'_, f32>>,
        d_states: Option<&States>,
    ) -> Result<GpuGradients, Error> {
        let GpuTape { network, mut prepared, pass, .. } = self;
        let layout = StateLayout::new(&network.config, pass.shape.batch);
        match d_output {
            Some(d_output) => prepared.write_sequence(&Given::DOutput, d_output).await?,
            None => {
                let len = pass.output_shape(&network.config).iter().product();
                prepared.write(&Given::DOutput, &vec![0.0f32; len]).await?;
            }
        }
        let flat = d_states.map_or_else(|| vec![0.0; layout.len], |states| layout.flatten(states));
        prepared.write(&layout.given(StateSet::DFinal), &flat).await?;
        let plan = |target: &Target| pass::tape(&network.config, target, &pass);
        prepared.run(&network.gpu, &network.shared, Steps::FromMark, plan).await?;
        Ok(GpuGradients { network, prepared: Some(prepared), pass })
    }
}

impl GpuGradients {
    fn prepared(&self) -> &Prepared {
        self.prepared.as_ref().expect("only dropping takes it out")
    }

    /// The buffers with the gradients of the parameters, laid out like them.
    pub(crate) fn buffers(&self) -> Vec<Arc<DeviceBuffer>> {
        let buffer =
            |chunk| self.prepared().buffer(&Given::Gradients(chunk)).expect("a tape has its gradients");
        (0..self.network.layout.chunks.len()).map(|chunk| Arc::clone(buffer(chunk))).collect()
    }

    pub(crate) async fn parameters(&self) -> Result<Parameters, Error> {
        let layout = &self.network.layout;
        Ok(layout.unflatten(&read_chunks(layout, &self.buffers()).await?))
    }

    /// The gradient with respect to an input; zeros if none flows there, as for tokens or for an input that the network
    /// ignores.
    pub(crate) async fn input(&self, half: Half) -> Result<Array3<f32>, Error> {
        let config = &self.network.config;
        let width = match (half, config.decoder()) {
            (Half::Decoder, Some(at)) => config.layers()[at].output,
            _ => config.input(),
        };
        let Shape { batch, .. } = self.pass.shape;
        let zeros = || Array3::zeros((self.pass.shape.axis(half).steps, batch, width));
        Ok(self.prepared().sequence(&Given::DInput(half)).await?.unwrap_or_else(zeros))
    }

    pub(crate) async fn decoder_input(&self) -> Result<Option<Array3<f32>>, Error> {
        match self.pass.shape.decoder {
            Some(_) => self.input(Half::Decoder).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn states(&self) -> Result<States, Error> {
        let layout = StateLayout::new(&self.network.config, self.pass.shape.batch);
        let flat = self.prepared().read(&layout.given(StateSet::DInitial)).await?;
        Ok(flat.map_or_else(States::default, |flat| layout.unflatten(&flat)))
    }
}

/// Returns the buffers to the network, for its next tape.
impl Drop for GpuGradients {
    fn drop(&mut self) {
        if let Some(prepared) = self.prepared.take() {
            self.network.tapes.put(self.pass, prepared);
        }
    }
}

/// A network run one step at a time or several, its states on the device.
#[derive(Debug)]
pub(crate) struct GpuStream {
    pub(crate) network: Arc<GpuNetwork>,
    prepared: Prepared,
    pass: Pass,
    layout: StateLayout,
    /// Passes of several steps by their number; they share the states of `prepared`.
    longer: Kept<usize, Prepared>,
}

impl GpuStream {
    pub(crate) async fn step(&self, input: ArrayView2<'_, f32>) -> Result<Array2<f32>, Error> {
        self.network.pack().await?;
        let half = if self.pass.part == Part::Decoder { Half::Decoder } else { Half::Input };
        self.prepared.write_input(half, input.insert_axis(ndarray::Axis(0)), None).await?;
        self.prepared.compiled.submit().await?;
        let output = self.prepared.sequence(&Given::Output).await?.expect("a step has an output");
        Ok(output.index_axis_move(ndarray::Axis(0), 0))
    }

    /// Advances a network without a decoder by all steps of an input `[T, B, I]`.
    pub(crate) async fn advance(&mut self, input: ArrayView3<'_, f32>) -> Result<Array3<f32>, Error> {
        let steps = input.dim().0;
        if steps == 1 {
            let output = self.step(input.index_axis_move(ndarray::Axis(0), 0)).await?;
            return Ok(output.insert_axis(ndarray::Axis(0)));
        }
        self.network.pack().await?;
        let mut prepared = match self.longer.take(&steps) {
            Some(prepared) => prepared,
            None => self.longer(steps).await?,
        };
        prepared.write_input(Half::Input, input, None).await?;
        let GpuNetwork { gpu, config, shared, .. } = &*self.network;
        let plan = |target: &Target| {
            pass::stream(config, target, self.pass.shape.batch, steps).map(|(_, planned)| planned)
        };
        prepared.run(gpu, shared, Steps::All, plan).await?;
        let output = prepared.sequence(&Given::Output).await?.expect("steps have an output");
        self.longer.put(steps, prepared);
        Ok(output)
    }

    /// A pass of several steps that goes on from the states of the others.
    async fn longer(&self, steps: usize) -> Result<Prepared, Error> {
        let GpuNetwork { gpu, config, shared, .. } = &*self.network;
        let (_, planned) = pass::stream(config, gpu.target(), self.pass.shape.batch, steps)?;
        let states = self.layout.given(StateSet::Initial);
        let kept = self.prepared.buffer(&states).map(|buffer| (states, Arc::clone(buffer)));
        Prepared::with(gpu, &planned, shared, kept.into_iter().collect()).await
    }

    pub(crate) async fn states(&self) -> Result<States, Error> {
        let flat = self.prepared.read(&self.layout.given(StateSet::Initial)).await?;
        Ok(flat.map_or_else(States::default, |flat| self.layout.unflatten(&flat)))
    }

    pub(crate) async fn set_states(&self, states: &States) -> Result<(), Error> {
        self.prepared.write(&self.layout.given(StateSet::Initial), &self.layout.flatten(states)).await
    }
}

fn source(states: Option<&States>) -> InitialFrom {
    if states.is_some() { InitialFrom::Given } else { InitialFrom::Configured }
}

/// The shape of a batch that goes through some part of the network.
pub(crate) fn shape_of(part: Part, input: &Sequences<'_>) -> Shape {
    let axis = |part: &Sequences<'_>| Axis { steps: part.steps(), lengths: part.lengths().is_some() };
    let decoder = match part {
        Part::Decoder => Some(axis(input)),
        Part::Encoder | Part::Recurrent => None,
        Part::Whole => input.decoder().map(axis),
    };
    Shape { batch: input.batch(), input: axis(input), decoder }
}

/// Writes a batch into the buffers of a pass.
pub(crate) async fn upload(
    prepared: &Prepared,
    input: &Sequences<'_>,
    dropout: Option<Dropout>,
) -> Result<(), Error> {
    prepared.write_input(Half::Input, input.values(), input.lengths()).await?;
    if let Some(decoder) = input.decoder() {
        prepared.write_input(Half::Decoder, decoder.values(), decoder.lengths()).await?;
    }
    prepared.write_dropout(dropout).await
}
