//! The programs of the course in `docs/learn`: each computes the numbers of a page and draws its picture.
//!
//! ```text
//! cargo run --release --example learn -- finite-response
//! ```
//!
//! All networks are small enough to be understood number by number, and run on the CPU within a second or so.

mod backpropagation;
mod clipping;
mod encoder_decoder;
mod finite_response;
mod forecasting;
mod gauss_newton;
mod generation;
mod gru;
mod lstm;
mod output_recursion;
mod parts;
mod peepholes;
mod second_order;
mod state_space;
mod topologies;
mod unrolling;
mod vanishing;

use clap::{Parser, ValueEnum};
use std::error::Error;

/// Computes the numbers of a page of docs/learn and draws its picture into gatefold-out
#[derive(Parser)]
struct Arguments {
    /// The page
    page: Page,
}

#[derive(Clone, Copy, ValueEnum)]
enum Page {
    FiniteResponse,
    StateSpace,
    OutputRecursion,
    Unrolling,
    Backpropagation,
    Vanishing,
    Clipping,
    Lstm,
    Peepholes,
    Gru,
    Topologies,
    Forecasting,
    Generation,
    EncoderDecoder,
    SecondOrder,
    GaussNewton,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().page {
        Page::FiniteResponse => finite_response::run(),
        Page::StateSpace => state_space::run(),
        Page::OutputRecursion => output_recursion::run(),
        Page::Unrolling => unrolling::run(),
        Page::Backpropagation => backpropagation::run(),
        Page::Vanishing => vanishing::run(),
        Page::Clipping => clipping::run(),
        Page::Lstm => lstm::run(),
        Page::Peepholes => peepholes::run(),
        Page::Gru => gru::run(),
        Page::Topologies => topologies::run(),
        Page::Forecasting => forecasting::run(),
        Page::Generation => generation::run(),
        Page::EncoderDecoder => encoder_decoder::run(),
        Page::SecondOrder => second_order::run(),
        Page::GaussNewton => gauss_newton::run(),
    }
}
