//! Plans made ready, and the buffers that they share.

use super::attempt::Attempt;
use super::{Compiled, DeviceBuffer, Gpu};
use crate::Error;
use gatefold_model::Dropout;
use gatefold_schedule::pass::{Pass, PassPlan};
use gatefold_schedule::{Given, Half, ParameterLayout, Plan, Target, check};
use ndarray::{Array3, ArrayView3};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The number of passes of each kind for which a network keeps plans.
const KEPT_PLANS: usize = 6;

/// Values made for keys; the least recently used is dropped first.
#[derive(Debug)]
pub(crate) struct Kept<K, T> {
    kept: Vec<(K, T)>,
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Kept { kept: Vec::new() }
    }
}

impl<K: PartialEq, T> Kept<K, T> {
    /// Takes out the value kept under a key. If there is none, makes room at once: the new value may need the memory of
    /// the one dropped.
    pub(crate) fn take(&mut self, key: &K) -> Option<T> {
        match self.kept.iter().position(|(kept, _)| kept == key) {
            Some(at) => Some(self.kept.remove(at).1),
            None => {
                if self.kept.len() >= KEPT_PLANS {
                    self.kept.remove(0);
                }
                None
            }
        }
    }

    /// Puts a value back.
    pub(crate) fn put(&mut self, key: K, value: T) {
        if self.kept.len() >= KEPT_PLANS {
            self.kept.remove(0);
        }
        self.kept.push((key, value));
    }
}

/// The steps of a plan to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    All,
    BeforeMark,
    FromMark,
}

/// The buffers that a pass changes and may depend on, of its own and shared ones.
async fn changed(
    gpu: &Gpu,
    planned: &PassPlan,
    shared: &SharedBuffers,
    own: &HashMap<Given, Arc<DeviceBuffer>>,
) -> Result<Vec<(Given, Arc<DeviceBuffer>)>, Error> {
    let mut found = Vec::new();
    for given in planned.changes() {
        let declared = planned.plan.buffers().iter().find(|buffer| buffer.given.as_ref() == Some(&given));
        let len = declared.expect("a plan changes what it declares").len;
        let buffer = match own.get(&given) {
            Some(own) => Arc::clone(own),
            None => shared.get(gpu, &given, len).await?,
        };
        found.push((given, buffer));
    }
    Ok(found)
}

/// The plan of a pass, with the buffers through which its data goes in and out.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) compiled: Compiled,
    own: HashMap<Given, Arc<DeviceBuffer>>,
    /// If workgroups of the pass may give up.
    attempt: Option<Attempt>,
    shapes: HashMap<Given, Vec<usize>>,
}

impl Prepared {
    /// Compiles the plan of a pass: buffers that the host writes or reads are the pass's own, the others the network's.
    pub(crate) async fn new(
        gpu: &Gpu,
        planned: &PassPlan,
        shared: &SharedBuffers,
    ) -> Result<Prepared, Error> {
        Prepared::with(gpu, planned, shared, HashMap::new()).await
    }

    /// Like [`Prepared::new`], with some of the pass's own buffers taken from another pass.
    pub(crate) async fn with(
        gpu: &Gpu,
        planned: &PassPlan,
        shared: &SharedBuffers,
        mut own: HashMap<Given, Arc<DeviceBuffer>>,
    ) -> Result<Prepared, Error> {
        check(&planned.plan, gpu.target())?;
        for declared in planned.plan.buffers() {
            let given = declared.given.as_ref().filter(|given| planned.owns(given));
            if let Some(given) = given.filter(|given| !own.contains_key(given)) {
                own.insert(given.clone(), DeviceBuffer::new(gpu, &declared.name, declared.len).await?);
            }
        }
        let raw = own.iter().map(|(given, buffer)| (given.clone(), buffer.raw().clone())).collect();
        let given = shared.given(gpu, &planned.plan, raw).await?;
        let compiled = Compiled::new(gpu, &planned.plan, &given).await?;
        let attempt = match planned.may_give_up() {
            true => {
                let changed = changed(gpu, planned, shared, &own).await?;
                Some(Attempt::new(gpu, &own[&Given::Sync], changed).await?)
            }
            false => None,
        };
        Ok(Prepared { compiled, own, attempt, shapes: planned.reads.iter().cloned().collect() })
    }

    /// Submits steps of the pass. If a workgroup gives up waiting for others, puts back what the pass has changed and runs what
    /// `plan` gives for a device without grids, from then on too; steps from the mark on then run after those before it, since
    /// what those saved is gone. The host's uploads stay where they are.
    pub(crate) async fn run(
        &mut self,
        gpu: &Gpu,
        shared: &SharedBuffers,
        steps: Steps,
        plan: impl FnOnce(&Target) -> Result<PassPlan, gatefold_schedule::Error>,
    ) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        let Some(attempt) = &self.attempt else { return self.submit(steps).await };
        if gpu.grid_notice().is_none() {
            attempt.keep().await?;
            let submitted = self.submit(steps).await?;
            if !attempt.failed().await? {
                return Ok(submitted);
            }
            gpu.gave_up();
            attempt.put_back().await?;
        }
        let planned = plan(&gpu.target().without_grids())?;
        let own = std::mem::take(&mut self.own);
        *self = Prepared::with(gpu, &planned, shared, own).await?;
        self.submit(if steps == Steps::FromMark { Steps::All } else { steps }).await
    }

    async fn submit(&self, steps: Steps) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        match steps {
            Steps::All => self.compiled.submit().await,
            Steps::BeforeMark => self.compiled.submit_before_mark().await,
            Steps::FromMark => self.compiled.submit_from_mark().await,
        }
    }

    /// One of the pass's own buffers, if its plan has it.
    pub(crate) fn buffer(&self, given: &Given) -> Option<&Arc<DeviceBuffer>> {
        self.own.get(given)
    }

    /// Reads one of the pass's own buffers back, if its plan has it.
    pub(crate) async fn read(&self, given: &Given) -> Result<Option<Vec<f32>>, Error> {
        let Some((buffer, shape)) = self.own.get(given).zip(self.shapes.get(given)) else { return Ok(None) };
        buffer.read(0, shape.iter().product()).await.map(Some)
    }

    /// Reads a sequence back, `[T, B, F]`.
    pub(crate) async fn sequence(&self, given: &Given) -> Result<Option<Array3<f32>>, Error> {
        let Some(values) = self.read(given).await? else { return Ok(None) };
        let shape = match self.shapes[given][..] {
            [steps, batch, width] => (steps, batch, width),
            _ => unreachable!("{given} is a sequence"),
        };
        Ok(Some(Array3::from_shape_vec(shape, values).expect("the plan writes the whole sequence")))
    }

    /// Writes one of the pass's own buffers, if its plan reads it.
    pub(crate) async fn write<T: bytemuck::NoUninit>(
        &self,
        given: &Given,
        values: &[T],
    ) -> Result<(), Error> {
        match self.own.get(given) {
            Some(buffer) => buffer.write(0, values).await,
            None => Ok(()),
        }
    }

    /// Writes a sequence, `[T, B, F]`, if the plan reads it.
    pub(crate) async fn write_sequence(
        &self,
        given: &Given,
        values: ArrayView3<'_, f32>,
    ) -> Result<(), Error> {
        let contiguous = values.as_standard_layout();
        self.write(given, contiguous.as_slice().expect("the standard layout is contiguous")).await
    }

    /// Writes one of the inputs with its lengths.
    pub(crate) async fn write_input(
        &self,
        half: Half,
        values: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
    ) -> Result<(), Error> {
        self.write_sequence(&Given::Input(half), values).await?;
        if let Some(lengths) = lengths {
            let lengths: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
            self.write(&Given::Lengths(half), &lengths).await?;
        }
        Ok(())
    }

    /// Writes the key of dropout's masks.
    pub(crate) async fn write_dropout(&self, dropout: Option<Dropout>) -> Result<(), Error> {
        let Some(Dropout { seed, batch, first_step }) = dropout else { return Ok(()) };
        self.write(&Given::DropoutKey, &[seed as u32, (seed >> 32) as u32, batch, first_step as u32]).await
    }
}

/// The buffers that all plans of a network share.
#[derive(Debug, Default)]
pub(crate) struct SharedBuffers(Mutex<HashMap<Given, Arc<DeviceBuffer>>>);

impl SharedBuffers {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Given, Arc<DeviceBuffer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // a map is never left half changed
    }

    /// A buffer, made at the first call.
    pub(crate) async fn get(&self, gpu: &Gpu, given: &Given, len: usize) -> Result<Arc<DeviceBuffer>, Error> {
        if let Some(found) = self.lock().get(given) {
            return Ok(Arc::clone(found));
        }
        let made = DeviceBuffer::new(gpu, &given.to_string(), len).await?;
        Ok(Arc::clone(self.lock().entry(given.clone()).or_insert(made)))
    }

    /// A buffer for each chunk of the parameters.
    pub(crate) async fn chunks(
        &self,
        gpu: &Gpu,
        layout: &ParameterLayout,
        given: impl Fn(usize) -> Given,
    ) -> Result<Vec<Arc<DeviceBuffer>>, Error> {
        let mut found = Vec::with_capacity(layout.chunks.len());
        for (chunk, &len) in layout.chunks.iter().enumerate() {
            found.push(self.get(gpu, &given(chunk), len).await?);
        }
        Ok(found)
    }

    /// Adds a buffer that was made elsewhere.
    pub(crate) fn put(&self, given: Given, buffer: &Arc<DeviceBuffer>) {
        self.lock().insert(given, Arc::clone(buffer));
    }

    /// The given buffers of a plan: the caller's, and shared ones for the rest.
    pub(crate) async fn given(
        &self,
        gpu: &Gpu,
        plan: &Plan,
        mut callers: HashMap<Given, wgpu::Buffer>,
    ) -> Result<HashMap<Given, wgpu::Buffer>, Error> {
        for declared in plan.buffers() {
            if let Some(given) = declared.given.as_ref().filter(|given| !callers.contains_key(given)) {
                let buffer = self.get(gpu, given, declared.len).await?;
                callers.insert(given.clone(), buffer.raw().clone());
            }
        }
        Ok(callers)
    }

    /// Drops buffers, so that the next [`SharedBuffers::get`] makes them anew.
    pub(crate) fn forget(&self, gone: impl Fn(&Given) -> bool) {
        self.lock().retain(|given, _| !gone(given));
    }
}

/// Prepared passes by their keys, shared by all that use a network: whoever runs one takes it out and puts it back.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Kept<Pass, Prepared>>);

impl Cache {
    pub(crate) fn take(&self, pass: &Pass) -> Option<Prepared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(pass)
    }

    pub(crate) fn put(&self, pass: Pass, prepared: Prepared) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(pass, prepared);
    }
}

/// Writes the parameters' values, or anything laid out like them, into their buffers.
pub(crate) async fn write_chunks(buffers: &[Arc<DeviceBuffer>], flat: &[Vec<f32>]) -> Result<(), Error> {
    for (buffer, values) in buffers.iter().zip(flat) {
        buffer.write(0, values).await?;
    }
    Ok(())
}

/// Reads the parameters' values, or anything laid out like them, back.
pub(crate) async fn read_chunks(
    layout: &ParameterLayout,
    buffers: &[Arc<DeviceBuffer>],
) -> Result<Vec<Vec<f32>>, Error> {
    let mut pending = Vec::with_capacity(buffers.len());
    for (buffer, &len) in buffers.iter().zip(&layout.chunks) {
        pending.push(buffer.request(0, len).await?);
    }
    let mut flat = Vec::with_capacity(pending.len());
    for read in pending {
        flat.push(read.wait().await?);
    }
    Ok(flat)
}
