//! Permissions that agents ask for.

use protocol::PermissionId;
use protocol::api::{AnswerRequest, PermissionAnswer, PermissionInfo};
use protocol::wire::PermissionOption;

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::cli::ui::table::Table;
use crate::client::Request;

/// `permissions`.
pub async fn permissions(link: &Link<'_>, args: args::Permissions) -> Outcome {
    match args {
        args::Permissions::Ls { id } => ls(link, id.as_deref()).await,
        args::Permissions::Allow { permission, option: None } => {
            answer(link, permission, PermissionAnswer::Allow).await
        }
        args::Permissions::Allow { permission, option: Some(option) } => {
            answer(link, permission, PermissionAnswer::Option(option)).await
        }
        args::Permissions::Deny { permission } => answer(link, permission, PermissionAnswer::Deny).await,
    }
}

async fn ls(link: &Link<'_>, typed: Option<&str>) -> Outcome {
    let path = match typed {
        Some(typed) => format!("/v1/sessions/{}/permissions", link.find(typed).await?),
        None => "/v1/permissions".to_owned(),
    };
    let answer = link.ask(Request::get(path)).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let mut table = Table::new(&["PERMISSION", "SESSION", "OPTIONS", "WHAT"]);
    for permission in read::<Vec<PermissionInfo>>(&answer)? {
        let named = |option: PermissionOption| match option.name == option.id {
            true => option.id,
            false => format!("{} ({})", option.id, option.name),
        };
        let options: Vec<String> = permission.options.into_iter().map(named).collect();
        table.row(vec![
            permission.permission_id.to_string().into(),
            render::session(&permission.session_id, permission.session_name.as_ref()).into(),
            render::line(&options.join(", ")).into(),
            render::line(&permission.title).into(),
        ]);
    }
    link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))
}

async fn answer(link: &Link<'_>, permission: PermissionId, answer: PermissionAnswer) -> Outcome {
    let waiting: Vec<PermissionInfo> = read(&link.ask(Request::get("/v1/permissions")).await?)?;
    let Some(found) = waiting.into_iter().find(|waiting| waiting.permission_id == permission) else {
        let what = format!("`{permission}` does not wait: it was answered, has expired, or never was");
        return Err(Failure::new(exit::CONFLICT, "permission_settled", what)
            .hint("`kennel permissions ls` lists those that wait"));
    };
    let path = format!("/v1/sessions/{}/permissions/{permission}", found.session_id);
    link.ask(Request::post(path).json(&AnswerRequest { answer })).await.map(drop)
}
