//! The real program in a home of its own, with the scripted worker: what a person and a client see.

mod home;
mod http;

mod adapters;
mod chat;
mod draft_model;
mod guard;
mod help;
mod life;
mod maps;
mod openai;
mod own_files;
mod permission;
mod real;
mod rerank;
mod shape;
mod tasks;
mod terminal;
mod tools;
mod turns;
