//! What a shell and `man` know of the command: `completions`, `man`. Both are made from the command line itself.

use std::io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde_json::json;

use crate::arguments::Arguments;
use crate::failure::Exit;
use crate::output::Report;

/// `credvault completions`.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<Report> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "credvault", &mut script);
    let script = String::from_utf8(script)?;
    let fields = json!({ "shell": shell.to_string(), "script": script });
    Ok(Report::new("completions", Exit::Done, script, fields))
}

/// `credvault man`.
pub(crate) fn man(out: Option<&Path>) -> anyhow::Result<Report> {
    let mut command = Arguments::command();
    command.build();
    let Some(folder) = out else {
        let page = page(&command)?;
        let fields = json!({ "page": page, "paths": [] });
        return Ok(Report::new("man", Exit::Done, page, fields));
    };
    std::fs::create_dir_all(folder).with_context(|| format!("the folder {folder:?} can't be made"))?;
    let mut paths = Vec::new();
    write_pages(&command, folder, &mut paths)?;
    let text = paths.iter().map(|path| format!("{path}\n")).collect();
    Ok(Report::new("man", Exit::Done, text, json!({ "page": null, "paths": paths })))
}

/// Writes the page of a command and those of the commands under it.
fn write_pages(command: &clap::Command, folder: &Path, paths: &mut Vec<String>) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.1", name(command)));
    std::fs::write(&path, page(command)?)
        .with_context(|| format!("the manual page {path:?} can't be written"))?;
    paths.push(path.to_string_lossy().into_owned());
    command.get_subcommands().try_for_each(|command| write_pages(command, folder, paths))
}

/// `credvault-keys-list`, as `man` calls it.
fn name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

/// The page of a command. Its end stands line by line, as it is written: `clap_mangen` would fill it like prose.
fn page(command: &clap::Command) -> anyhow::Result<String> {
    let man = Man::new(command.clone()).source(concat!("credvault ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    let mut render = || -> io::Result<()> {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        end(command).to_writer(&mut page)
    };
    render().context("the manual page can't be made")?;
    // Each part defines the apostrophe anew; once is enough.
    let page = String::from_utf8(page)?;
    let (definition, _) = page.split_once(".TH").unwrap_or_default();
    Ok(in_ascii(&format!("{definition}{}", page.replace(definition, ""))))
}

/// `page` with other characters as roff spells them: not every `troff` reads UTF-8.
fn in_ascii(page: &str) -> String {
    let spelled = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    page.chars().map(spelled).collect()
}

/// What stands after the options in the help, with its headings: `Examples:` and so on.
fn end(command: &clap::Command) -> Roff {
    let mut roff = Roff::default();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for line in help.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                // A heading turns filling on again.
                roff.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
            }
            None => {
                roff.text([roman(line)]);
            }
        }
    }
    roff.control("fi", []);
    roff
}
