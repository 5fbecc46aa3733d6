//! Prompts that wait, run, or were interrupted.

use protocol::SessionId;
use protocol::api::{
    Aborted, Cleared, EditRequest, PromptState, QueuedPrompt, ResolveRequest, Resolved, SessionInfo,
};
use protocol::event::Resolution;

use crate::attachments;
use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::send;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Table};
use crate::client::Request;

/// The longest text in a table, in characters.
const MAX_TEXT: usize = 80;

/// `queue`.
pub async fn queue(link: &Link<'_>, args: args::Queue) -> Outcome {
    match args {
        args::Queue::Ls(args) => ls(link, &args.id).await,
        args::Queue::Edit { id, prompt, text } => {
            let text = send::text(link.ui, text)?;
            let id = link.find(&id).await?;
            let request = Request::patch(format!("/v1/sessions/{id}/queue/{prompt}"));
            link.ask(request.json(&EditRequest { text })).await.map(drop)
        }
        args::Queue::Rm { id, prompt } => {
            let id = link.find(&id).await?;
            let request = Request::delete(format!("/v1/sessions/{id}/queue/{prompt}"));
            link.ask(request).await.map(drop)
        }
        args::Queue::Clear(args) => {
            let id = link.find(&args.id).await?;
            let answer = link.ask(Request::delete(format!("/v1/sessions/{id}/queue"))).await?;
            if link.ui.json {
                return link.ui.object(&answer);
            }
            link.ui.note(&format!("{} removed", read::<Cleared>(&answer)?.removed));
            Ok(())
        }
    }
}

async fn ls(link: &Link<'_>, typed: &str) -> Outcome {
    let id = link.find(typed).await?;
    let answer = link.ask(Request::get(format!("/v1/sessions/{id}/queue"))).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let prompts: Vec<QueuedPrompt> = read(&answer)?;
    link.ui.print(&table(&prompts).text(link.ui.out_colour, link.ui.columns))?;
    if let Some(cut) = prompts.iter().find(|prompt| prompt.state == PromptState::Interrupted) {
        link.ui.note(&format!("interrupted: `kennel resolve {} --retry` or `--drop`", cut.prompt_id));
    }
    Ok(())
}

fn table(prompts: &[QueuedPrompt]) -> Table {
    let mut table = Table::new(&["PROMPT", "STATE", "TEXT"]);
    for prompt in prompts {
        let (state, style) = match prompt.state {
            PromptState::Running => ("running", render::CYAN),
            PromptState::Queued => ("queued", render::YELLOW),
            PromptState::Interrupted => ("interrupted", render::RED),
        };
        let names = prompt.attachments.iter().map(|it| &*it.name);
        table.row(vec![
            prompt.prompt_id.to_string().into(),
            Cell::styled(state, style),
            render::short(&render::line(&attachments::told(&prompt.text, names)), MAX_TEXT).into(),
        ]);
    }
    table
}

/// `resolve`.
pub async fn resolve(link: &Link<'_>, args: &args::Resolve) -> Outcome {
    let action = if args.retry { Resolution::Retry } else { Resolution::Drop };
    let request = Request::post(format!("/v1/prompts/{}/resolve", args.prompt));
    let answer = link.ask(request.json(&ResolveRequest { action })).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    match read::<Resolved>(&answer)?.retried_as {
        Some(again) => link.ui.line(&again.to_string()),
        None => Ok(()),
    }
}

/// `abort`.
pub async fn abort(link: &Link<'_>, args: &args::Abort) -> Outcome {
    let id = link.find(&args.id).await?;
    let prompt = match args.prompt {
        Some(prompt) => prompt,
        // Named before it is ended: a request that has to be repeated, or comes late, ends no other turn.
        None => {
            let info: SessionInfo = link.get(Request::get(format!("/v1/sessions/{id}"))).await?;
            info.running_prompt.ok_or_else(|| no_turn(&id))?
        }
    };
    let request = Request::post(format!("/v1/sessions/{id}/abort?prompt={prompt}")).repeatable();
    let answer = link.ui.waiting("waiting for the end of the turn", link.ask(request)).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    link.ui.line(&read::<Aborted>(&answer)?.prompt_id.to_string())
}

fn no_turn(id: &SessionId) -> Failure {
    let what = format!("no turn runs in session `{id}`; nothing was aborted");
    Failure::new(exit::CONFLICT, "no_turn", what)
        .hint(format!("`kennel queue ls {id}` lists prompts that wait or were interrupted"))
}

#[cfg(test)]
mod tests {
    use protocol::PromptId;

    use super::*;

    #[test]
    fn a_queue_has_one_line_a_prompt() {
        let prompt = |id, state, text: &str| QueuedPrompt {
            prompt_id: PromptId(id),
            state,
            text: text.into(),
            attachments: Vec::new(),
        };
        let text = table(&[
            prompt(7, PromptState::Running, "make\ntest"),
            prompt(12, PromptState::Interrupted, &"x".repeat(200)),
        ])
        .text(false, None);
        let long = "x".repeat(79);
        assert_eq!(
            text,
            format!(
                "PROMPT     STATE        TEXT\nprompt-7   running      make test\nprompt-12  interrupted  {long}…\n"
            )
        );
    }
}
