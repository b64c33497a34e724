//! Executes plans: the only file that encodes dispatches.

use crate::buffer::{self, DeviceBuffer};
use crate::pipeline::Pipeline;
use crate::plan::{Dispatch, Plan, Span, Step};
use crate::{Error, Gpu, memory};
use gatefold_shaders::params::Params;
use gatefold_shaders::{KernelVariant, ParamsFrom};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A plan with pipelines, buffers and bind groups made: what is replayed every step.
#[derive(Debug)]
pub(crate) struct Compiled {
    gpu: Gpu,
    steps: Vec<Ready>,
    dispatches: usize,
    mark: usize,
    /// Slots that scratch buffers share; kept alive here, used through the bind groups.
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
/// a device of 200 GFLOP/s, and as many small dispatches as the slowest drivers start in that time.
const SUBMISSION_FLOPS: u64 = 10_000_000_000;
const SUBMISSION_DISPATCHES: usize = 4096;

impl Compiled {
    /// Makes everything that the plan needs; `given` has the buffers that live outside it.
    pub(crate) fn new(
        gpu: &Gpu,
        plan: &Plan,
        given: &HashMap<String, wgpu::Buffer>,
    ) -> Result<Compiled, Error> {
        memory::check(plan, gpu.target())?;
        let assignment = memory::assign(plan);
        let slots = assignment
            .slot_lens
            .iter()
            .enumerate()
            .map(|(slot, &len)| {
                let holds = |index: &usize| assignment.slot_of[*index] == Some(slot);
                let first = (0..plan.buffers.len()).find(holds).expect("every slot holds a buffer");
                DeviceBuffer::new(gpu, &plan.buffers[first].name, len)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let buffers: Vec<Option<wgpu::Buffer>> = plan
            .buffers
            .iter()
            .zip(&assignment.slot_of)
            .map(|(declared, slot)| match slot {
                Some(slot) => Some(slots[*slot].raw().clone()),
                None => declared.given.then(|| {
                    let found = given.get(&declared.name);
                    found.unwrap_or_else(|| panic!("{} was not given to the plan", declared.name)).clone()
                }),
            })
            .collect();

        let mut maker = Maker { gpu, buffers: &buffers, groups: HashMap::new(), uniforms: None };
        maker.uniforms = maker.uniforms(plan)?;
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            steps.push(maker.ready(index, step)?);
        }
        Ok(Compiled {
            gpu: gpu.clone(),
            steps,
            dispatches: plan.dispatches(),
            mark: plan.mark,
            _slots: slots,
        })
    }

    /// [`Compiled::new`] for callers who submit themselves: what wgpu has against a recording, such as a buffer of another
    /// device, it says when their encoder is finished; here a trial that goes nowhere says it first.
    pub(crate) fn tried(
        gpu: &Gpu,
        plan: &Plan,
        given: &HashMap<String, wgpu::Buffer>,
    ) -> Result<Compiled, Error> {
        let compiled = Compiled::new(gpu, plan, given)?;
        gpu.checked("recording", 0, || {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            compiled.record(&mut encoder);
            drop(encoder.finish());
        })?;
        Ok(compiled)
    }

    pub(crate) fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Records every step into the caller's encoder.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        record(&self.steps, encoder);
    }

    /// Records some of the steps, counted as in the plan.
    pub(crate) fn record_range(&self, steps: std::ops::Range<usize>, encoder: &mut wgpu::CommandEncoder) {
        record(&self.steps[steps], encoder);
    }

    /// Submits every step, split by the work in it; gives what to wait for.
    pub(crate) fn submit(&self) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        self.submit_part(0..self.steps.len())
    }

    /// Submits the steps in front of the plan's mark.
    pub(crate) fn submit_before_mark(&self) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        self.submit_part(0..self.mark)
    }

    /// Submits the steps from the plan's mark on.
    pub(crate) fn submit_from_mark(&self) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        self.submit_part(self.mark..self.steps.len())
    }

    fn submit_part(&self, part: Range<usize>) -> Result<Option<wgpu::SubmissionIndex>, Error> {
        let mut begin = part.start;
        let mut last = None;
        while begin < part.end {
            let end = begin + submission_len(&self.steps[begin..part.end]);
            last = Some(self.gpu.checked("a submission", 0, || {
                let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
                record(&self.steps[begin..end], &mut encoder);
                self.gpu.queue().submit([encoder.finish()])
            })?);
            begin = end;
        }
        Ok(last)
    }
}

/// How many of these steps go into one submission: one at least.
fn submission_len(steps: &[Ready]) -> usize {
    let mut work = 0;
    for (index, step) in steps.iter().enumerate().take(SUBMISSION_DISPATCHES) {
        if let Ready::Dispatch { flops, .. } = step {
            work += flops;
        }
        if work > SUBMISSION_FLOPS {
            return index.max(1);
        }
    }
    steps.len().min(SUBMISSION_DISPATCHES)
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
            // The steps of a scan differ in nothing but their params.
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

/// Makes steps ready, and each bind group once.
struct Maker<'a> {
    gpu: &'a Gpu,
    buffers: &'a [Option<wgpu::Buffer>],
    groups: HashMap<(KernelVariant, Vec<Span>), wgpu::BindGroup>,
    uniforms: Option<(wgpu::Buffer, Vec<u32>)>,
}

impl Maker<'_> {
    fn raw(&self, span: &Span) -> &wgpu::Buffer {
        self.buffers[span.buffer.0].as_ref().expect("a buffer that a step uses has a slot or is given")
    }

    /// One buffer with the params of every dispatch, and where each begins; written while it is made, so that the
    /// caller's queue is left alone.
    fn uniforms(&self, plan: &Plan) -> Result<Option<(wgpu::Buffer, Vec<u32>)>, Error> {
        if self.gpu.target().params == ParamsFrom::Immediate {
            return Ok(None);
        }
        let stride = self.gpu.limits().min_uniform_buffer_offset_alignment.max(64) as usize;
        let mut content = Vec::new();
        let mut offsets = Vec::new();
        for step in &plan.steps {
            offsets.push(content.len() as u32);
            if let Step::Dispatch(dispatch) = step {
                content.extend(&dispatch.params);
                content.resize(content.len().next_multiple_of(stride), 0);
            }
        }
        let size = content.len().max(stride) as u64;
        self.gpu.target().check_size("params", size)?;
        let uniforms = self.gpu.checked("params", size, || {
            let uniforms = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size,
                usage: wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: true,
            });
            buffer::fill_mapped(&uniforms, &content).map(|()| uniforms)
        })??;
        Ok(Some((uniforms, offsets)))
    }

    fn ready(&mut self, index: usize, step: &Step) -> Result<Ready, Error> {
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
                let pipeline = self.gpu.pipeline(&dispatch.kernel)?;
                let buffers = self.group(dispatch, &pipeline)?;
                let params = match &self.uniforms {
                    None => ReadyParams::Immediate(dispatch.params.clone()),
                    Some((uniforms, offsets)) => ReadyParams::Uniform {
                        group: self.params_group(dispatch, &pipeline, uniforms)?,
                        offset: offsets[index],
                    },
                };
                Ready::Dispatch { pipeline, buffers, params, groups: dispatch.groups, flops: dispatch.flops }
            }
        })
    }

    fn group(&mut self, dispatch: &Dispatch, pipeline: &Pipeline) -> Result<wgpu::BindGroup, Error> {
        let key = (dispatch.kernel.clone(), dispatch.bindings.clone());
        if let Some(found) = self.groups.get(&key) {
            return Ok(found.clone());
        }
        let entries: Vec<_> = (0..)
            .zip(&dispatch.bindings)
            .map(|(binding, span)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: self.raw(span),
                    offset: 4 * span.offset as u64,
                    size: wgpu::BufferSize::new(buffer::bytes(span.len)),
                }),
            })
            .collect();
        let made = self.bind("buffers", &pipeline.layout, &entries, dispatch)?;
        self.groups.insert(key, made.clone());
        Ok(made)
    }

    fn params_group(
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
        self.bind("params", layout, &[entry], dispatch)
    }

    fn bind(
        &self,
        label: &str,
        layout: &wgpu::BindGroupLayout,
        entries: &[wgpu::BindGroupEntry<'_>],
        dispatch: &Dispatch,
    ) -> Result<wgpu::BindGroup, Error> {
        self.gpu.checked(&format!("{label} of {}", dispatch.kernel), 0, || {
            let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout, entries };
            self.gpu.device().create_bind_group(&descriptor)
        })
    }
}

/// Runs one kernel on its own, as tests and the self-check do: uploads what each binding holds at first, dispatches
/// once, and returns what each holds then.
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
    let mut buffers = Vec::new();
    let mut given = HashMap::new();
    for (index, values) in bindings.iter().enumerate() {
        let name = format!("binding{index}");
        let buffer = DeviceBuffer::new(gpu, &name, values.len())?;
        buffer.write(0, values)?;
        given.insert(name, buffer.raw().clone());
        buffers.push(buffer);
    }
    let spans: Vec<Span> = (0..)
        .zip(bindings)
        .map(|(index, values)| plan.given(format!("binding{index}"), values.len()))
        .collect();
    plan.dispatch(kernel.clone(), params, &spans, groups);
    Compiled::new(gpu, &plan, &given)?.submit()?;
    buffers.iter().zip(bindings).map(|(buffer, values)| buffer.read(0, values.len())).collect()
}
