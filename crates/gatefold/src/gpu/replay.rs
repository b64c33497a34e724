//! Replays plans: the only file that encodes dispatches.

use super::Gpu;
use super::buffer::{self, DeviceBuffer};
use super::pipeline::Pipeline;
use crate::Error;
use gatefold_schedule::{Binding, Dispatch, Given, Plan, Span, Step, assign, check};
use gatefold_shaders::params::Params;
use gatefold_shaders::{KernelVariant, ParamsFrom};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A plan with its pipelines, buffers and bind groups, ready to be replayed.
#[derive(Debug)]
pub(crate) struct Compiled {
    gpu: Gpu,
    steps: Vec<Ready>,
    mark: usize,
    /// Slots that scratch buffers share, tables, and stand-ins for unused bindings: kept alive here, used through the bind
    /// groups.
    _slots: Vec<Arc<DeviceBuffer>>,
}

/// A step ready to be encoded.
#[derive(Debug)]
enum Ready {
    Clear {
        buffer: wgpu::Buffer,
        offset: u64,
        bytes: u64,
    },
    Copy {
        from: wgpu::Buffer,
        from_offset: u64,
        to: wgpu::Buffer,
        to_offset: u64,
        bytes: u64,
    },
    Dispatch {
        pipeline: Arc<Pipeline>,
        buffers: wgpu::BindGroup,
        params: ReadyParams,
        groups: [u32; 3],
        flops: u64,
    },
}

#[derive(Debug)]
enum ReadyParams {
    Immediate(Vec<u8>),
    Uniform { group: wgpu::BindGroup, offset: u32 },
}

/// Work after which a submission ends, so that no driver's watchdog (2 s on Windows) takes the device for hung: 50 ms on
/// a device of 200 GFLOP/s.
const SUBMISSION_FLOPS: u64 = 10_000_000_000;
/// The device runs a submission while the next is recorded, so the first is short, and each may be twice as long as the
/// one before: on an H100 a dispatch takes 3 us and its recording 2.
const FIRST_SUBMISSION: usize = 16;
const LONGEST_SUBMISSION: usize = 256;

impl Compiled {
    /// Makes everything that the plan needs; `given` has the buffers that live outside it.
    pub(crate) async fn new(
        gpu: &Gpu,
        plan: &Plan,
        given: &HashMap<Given, wgpu::Buffer>,
    ) -> Result<Compiled, Error> {
        check(plan, gpu.target())?;
        let assignment = assign(plan);
        let mut slots = Vec::with_capacity(assignment.slot_lens.len());
        for (slot, &len) in assignment.slot_lens.iter().enumerate() {
            let holds = |index: &usize| assignment.slot_of[*index] == Some(slot);
            let first = (0..plan.buffers().len()).find(holds).expect("every slot holds a buffer");
            slots.push(DeviceBuffer::new(gpu, &plan.buffers()[first].name, len).await?);
        }
        let mut buffers: Vec<Option<wgpu::Buffer>> = Vec::with_capacity(plan.buffers().len());
        for (declared, slot) in plan.buffers().iter().zip(&assignment.slot_of) {
            buffers.push(match (slot, &declared.given, &declared.content) {
                (Some(slot), ..) => Some(slots[*slot].raw().clone()),
                (_, Some(name), _) => {
                    let found = given.get(name);
                    Some(found.unwrap_or_else(|| panic!("{name} was not given to the plan")).clone())
                }
                (.., Some(words)) => {
                    let words = bytemuck::cast_slice(words);
                    slots.push(DeviceBuffer::with_values(gpu, &declared.name, words).await?);
                    slots.last().map(|table| table.raw().clone())
                }
                _ => None,
            });
        }

        let unused = stand_ins(gpu, plan).await?;
        let mut maker =
            Maker { gpu, buffers: &buffers, unused: &unused, groups: HashMap::new(), uniforms: None };
        maker.uniforms = maker.uniforms(plan).await?;
        let mut steps = Vec::with_capacity(plan.steps().len());
        for (index, step) in plan.steps().iter().enumerate() {
            steps.push(maker.ready(index, step).await?);
        }
        gpu.save_pipelines();
        slots.extend(unused);
        Ok(Compiled { gpu: gpu.clone(), steps, mark: plan.mark(), _slots: slots })
    }

    /// [`Compiled::new`] for callers who submit the work themselves. wgpu reports a mistake in a recording, such as a
    /// buffer of another device, only when their encoder is finished; here a trial recording, which is never submitted,
    /// finds it first.
    pub(crate) async fn tried(
        gpu: &Gpu,
        plan: &Plan,
        given: &HashMap<Given, wgpu::Buffer>,
    ) -> Result<Compiled, Error> {
        let compiled = Compiled::new(gpu, plan, given).await?;
        check_groups(plan, gpu.limits().max_compute_workgroups_per_dimension)?;
        gpu.checked("recording", 0, || {
            // Bind groups were checked when they were made; copies and clears are checked only here.
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            let transfers = compiled.steps.iter().filter(|step| !matches!(step, Ready::Dispatch { .. }));
            transfers.for_each(|step| record_transfer(step, &mut encoder));
            drop(encoder.finish());
        })
        .await?;
        Ok(compiled)
    }

    /// Records every step into the caller's encoder.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        record(&self.steps, encoder);
    }

    /// Records the steps before the plan's mark.
    pub(crate) fn record_before_mark(&self, encoder: &mut wgpu::CommandEncoder) {
        record(&self.steps[..self.mark], encoder);
    }

    /// Records the steps from the plan's mark on.
    pub(crate) fn record_from_mark(&self, encoder: &mut wgpu::CommandEncoder) {
        record(&self.steps[self.mark..], encoder);
    }

    /// Submits all steps, split by the work in them; returns the last submission, to wait for.
    pub(crate) async fn submit(&self) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        self.submit_part(0..self.steps.len()).await
    }

    /// Submits the steps before the plan's mark.
    pub(crate) async fn submit_before_mark(&self) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        self.submit_part(0..self.mark).await
    }

    /// Submits the steps from the plan's mark on.
    pub(crate) async fn submit_from_mark(&self) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        self.submit_part(self.mark..self.steps.len()).await
    }

    async fn submit_part(&self, part: Range<usize>) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        let submit = || {
            let mut last = None;
            for steps in submissions(&self.steps[part], Ready::flops) {
                let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
                record(steps, &mut encoder);
                last = Some(self.gpu.queue().submit([encoder.finish()]));
            }
            last
        };
        self.gpu.checked("a submission", 0, submit).await
    }
}

impl Ready {
    fn flops(&self) -> u64 {
        if let Ready::Dispatch { flops, .. } = self { *flops } else { 0 }
    }
}

/// The steps of each submission, at least one.
fn submissions<T>(mut steps: &[T], flops: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    let mut most = FIRST_SUBMISSION;
    std::iter::from_fn(move || {
        let (mut work, mut len) = (0, 0);
        for step in steps.iter().take(most) {
            work += flops(step);
            if work > SUBMISSION_FLOPS && len > 0 {
                break;
            }
            len += 1;
        }
        most = LONGEST_SUBMISSION.min(2 * most);
        let (submission, rest) = steps.split_at(len);
        steps = rest;
        (len > 0).then_some(submission)
    })
}

/// Checks dispatches against the workgroup limit of a device that somebody else opened; plans keep only to WebGPU's.
fn check_groups(plan: &Plan, most: u32) -> Result<(), Error> {
    for step in plan.steps() {
        if let Step::Dispatch(dispatch) = step
            && dispatch.groups.iter().any(|&count| count > most)
        {
            return Err(Error::Limit {
                what: format!("kernel {} {}", dispatch.kernel, dispatch.note).trim_end().into(),
                needed: format!("{:?} workgroups", dispatch.groups),
                allowed: format!("{most} an axis"),
                advice: "open the device with WebGPU's limit, 65535".into(),
            });
        }
    }
    Ok(())
}

fn record(steps: &[Ready], encoder: &mut wgpu::CommandEncoder) {
    let is_dispatch = |step: &Ready| matches!(step, Ready::Dispatch { .. });
    for run in steps.chunk_by(|a, b| is_dispatch(a) && is_dispatch(b)) {
        if !is_dispatch(&run[0]) {
            record_transfer(&run[0], encoder);
            continue;
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let mut set: (Option<&Pipeline>, Option<&wgpu::BindGroup>) = (None, None);
        for step in run {
            let Ready::Dispatch { pipeline, buffers, params, groups, .. } = step else {
                unreachable!("runs of several steps are dispatches");
            };
            // The steps of a scan differ only in their params.
            if !set.0.is_some_and(|last| std::ptr::eq(last, Arc::as_ref(pipeline))) {
                pass.set_pipeline(&pipeline.pipeline);
                set = (Some(pipeline), None);
            }
            if set.1 != Some(buffers) {
                pass.set_bind_group(0, buffers, &[]);
                set.1 = Some(buffers);
            }
            match params {
                ReadyParams::Immediate(bytes) => pass.set_immediates(0, bytes),
                ReadyParams::Uniform { group, offset } => pass.set_bind_group(1, group, &[*offset]),
            }
            pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        }
    }
}

fn record_transfer(step: &Ready, encoder: &mut wgpu::CommandEncoder) {
    match step {
        Ready::Clear { buffer, offset, bytes } => encoder.clear_buffer(buffer, *offset, Some(*bytes)),
        Ready::Copy { from, from_offset, to, to_offset, bytes } => {
            encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
        }
        Ready::Dispatch { .. } => unreachable!("dispatches are recorded in passes"),
    }
}

/// Elements of a stand-in: enough for any element type.
const STAND_IN_LEN: usize = 16;

/// Buffers for unused bindings, by place: wgpu wants a buffer for every binding, and refuses one bound twice if it is
/// written.
async fn stand_ins(gpu: &Gpu, plan: &Plan) -> Result<Vec<Arc<DeviceBuffer>>, Error> {
    let places = plan.steps().iter().filter_map(|step| match step {
        Step::Dispatch(dispatch) => dispatch.bindings.iter().rposition(|binding| *binding == Binding::Unused),
        _ => None,
    });
    let mut found = Vec::new();
    for _ in 0..places.max().map_or(0, |last| last + 1) {
        found.push(DeviceBuffer::new(gpu, "unused", STAND_IN_LEN).await?);
    }
    Ok(found)
}

/// Makes steps ready, and each bind group once.
struct Maker<'a> {
    gpu: &'a Gpu,
    buffers: &'a [Option<wgpu::Buffer>],
    unused: &'a [Arc<DeviceBuffer>],
    groups: HashMap<(KernelVariant, Vec<Binding>), wgpu::BindGroup>,
    uniforms: Option<(wgpu::Buffer, Vec<u32>)>,
}

impl Maker<'_> {
    fn raw(&self, span: &Span) -> &wgpu::Buffer {
        self.buffers[span.buffer.0].as_ref().expect("a buffer that a step uses has a slot or is given")
    }

    /// The place from which a dispatch reads its params.
    fn params_from(&self, dispatch: &Dispatch) -> ParamsFrom {
        dispatch.kernel.params_from(self.gpu.target().params)
    }

    /// One buffer with the params of every dispatch that reads them from there, and where each begins; written while it is
    /// made, so that the caller's queue is left alone.
    async fn uniforms(&self, plan: &Plan) -> Result<Option<(wgpu::Buffer, Vec<u32>)>, Error> {
        let stride = self.gpu.limits().min_uniform_buffer_offset_alignment.max(64) as usize;
        let mut content = Vec::new();
        let mut offsets = Vec::new();
        for step in plan.steps() {
            offsets.push(content.len() as u32);
            if let Step::Dispatch(dispatch) = step
                && self.params_from(dispatch) == ParamsFrom::Uniform
            {
                content.extend(&dispatch.params);
                content.resize(content.len().next_multiple_of(stride), 0);
            }
        }
        if content.is_empty() {
            return Ok(None);
        }
        let size = content.len() as u64;
        self.gpu.target().check_size("params", size)?;
        let make = || {
            let uniforms = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size,
                usage: wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: true,
            });
            buffer::fill_mapped(&uniforms, &content).map(|()| uniforms)
        };
        let uniforms = self.gpu.checked("params", size, make).await??;
        Ok(Some((uniforms, offsets)))
    }

    async fn ready(&mut self, index: usize, step: &Step) -> Result<Ready, Error> {
        let bytes = |elements: usize| 4 * elements as u64;
        Ok(match step {
            Step::Clear(span) => Ready::Clear {
                buffer: self.raw(span).clone(),
                offset: bytes(span.offset),
                bytes: bytes(span.len),
            },
            Step::Copy { from, to } => Ready::Copy {
                from: self.raw(from).clone(),
                from_offset: bytes(from.offset),
                to: self.raw(to).clone(),
                to_offset: bytes(to.offset),
                bytes: bytes(from.len),
            },
            Step::Dispatch(dispatch) => {
                let pipeline = self.gpu.pipeline(&dispatch.kernel).await?;
                let buffers = self.group(dispatch, &pipeline).await?;
                let params = match (self.params_from(dispatch), &self.uniforms) {
                    (ParamsFrom::Uniform, Some((uniforms, offsets))) => ReadyParams::Uniform {
                        group: self.params_group(dispatch, &pipeline, uniforms).await?,
                        offset: offsets[index],
                    },
                    _ => ReadyParams::Immediate(dispatch.params.clone()),
                };
                Ready::Dispatch { pipeline, buffers, params, groups: dispatch.groups, flops: dispatch.flops }
            }
        })
    }

    async fn group(&mut self, dispatch: &Dispatch, pipeline: &Pipeline) -> Result<wgpu::BindGroup, Error> {
        let key = (dispatch.kernel.clone(), dispatch.bindings.clone());
        if let Some(found) = self.groups.get(&key) {
            return Ok(found.clone());
        }
        let entries: Vec<_> = (0..)
            .zip(&dispatch.bindings)
            .map(|(binding, bound)| {
                let (buffer, offset, len) = match bound {
                    Binding::Used(span) => (self.raw(span), span.offset, span.len),
                    Binding::Unused => (self.unused[binding as usize].raw(), 0, STAND_IN_LEN),
                };
                let size = wgpu::BufferSize::new(buffer::bytes(len));
                let bound = wgpu::BufferBinding { buffer, offset: 4 * offset as u64, size };
                wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(bound) }
            })
            .collect();
        let made = self.bind("buffers", &pipeline.layout, &entries, dispatch).await?;
        self.groups.insert(key, made.clone());
        Ok(made)
    }

    async fn params_group(
        &self,
        dispatch: &Dispatch,
        pipeline: &Pipeline,
        uniforms: &wgpu::Buffer,
    ) -> Result<wgpu::BindGroup, Error> {
        let layout = pipeline.params_layout.as_ref().expect("pipelines read their params as the device does");
        let entry = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: uniforms,
                offset: 0,
                size: wgpu::BufferSize::new(dispatch.params.len() as u64),
            }),
        };
        self.bind("params", layout, &[entry], dispatch).await
    }

    async fn bind(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        entries: &[wgpu::BindGroupEntry<'_>],
        dispatch: &Dispatch,
    ) -> Result<wgpu::BindGroup, Error> {
        let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout, entries };
        let bind = || self.gpu.device().create_bind_group(&descriptor);
        self.gpu.checked(&format!("{label} of {}", dispatch.kernel), 0, bind).await
    }
}

/// Runs one kernel on its own, as tests and the self-check do: uploads the content of each binding, dispatches once,
/// and returns what each holds afterwards.
///
/// # Errors
/// Those of making buffers and pipelines, and of reading back.
///
/// # Panics
/// If params or the number of bindings are not the kernel's.
pub fn run_kernel<P: Params>(
    gpu: &Gpu,
    kernel: &KernelVariant,
    params: P,
    bindings: &[&[f32]],
    groups: [u32; 3],
) -> Result<Vec<Vec<f32>>, Error> {
    let mut plan = Plan::default();
    let spans: Vec<Binding> = (0..)
        .zip(bindings)
        .map(|(index, values)| plan.given(Given::Argument(index), values.len()).into())
        .collect();
    plan.dispatch(kernel.clone(), params, &spans, groups);
    let given: Vec<(Given, &[f32])> = (0..).map(Given::Argument).zip(bindings.iter().copied()).collect();
    run_plan(gpu, &plan, &given)
}

/// Runs a plan on its own: uploads the content of each given buffer, and returns what each holds afterwards.
///
/// # Errors
/// Those of [`run_kernel`].
///
/// # Panics
/// If the plan has a given buffer that is not among these.
pub fn run_plan(gpu: &Gpu, plan: &Plan, given: &[(Given, &[f32])]) -> Result<Vec<Vec<f32>>, Error> {
    pollster::block_on(async {
        let mut buffers = Vec::new();
        for (name, values) in given {
            let buffer = DeviceBuffer::new(gpu, &name.to_string(), values.len()).await?;
            buffer.write(0, values).await?;
            buffers.push(buffer);
        }
        let raw = given.iter().zip(&buffers).map(|((name, _), buffer)| (name.clone(), buffer.raw().clone()));
        Compiled::new(gpu, plan, &raw.collect()).await?.submit().await?;
        let mut found = Vec::new();
        for ((_, values), buffer) in given.iter().zip(&buffers) {
            found.push(buffer.read(0, values.len()).await?);
        }
        Ok(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(flops: &[u64]) -> Vec<usize> {
        submissions(flops, |&flops| flops).map(<[u64]>::len).collect()
    }

    #[test]
    fn submissions_grow_and_end_before_they_are_too_much_work() {
        assert_eq!(lens(&[]), Vec::<usize>::new());
        assert_eq!(lens(&[0; 5]), [5]);
        assert_eq!(lens(&[0; 900]), [16, 32, 64, 128, 256, 256, 148]);
        let half = SUBMISSION_FLOPS / 2;
        assert_eq!(lens(&[half; 5]), [2, 2, 1], "two are not above the limit");
        assert_eq!(
            lens(&[0, 3 * half, 3 * half, 0, 0]),
            [1, 1, 1, 2],
            "what is too much by itself goes alone"
        );
    }
}
