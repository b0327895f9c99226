"""The loop of an interactive mistral-chat: read, obey or answer, until the person leaves."""

from mistral_local.cli.console import can_redraw
from mistral_local.cli.conversation import check_text
from mistral_local.cli.editor import CommandCompleter, Editor, LineEditor, TerminalEditor, open_history
from mistral_local.cli.environment import history_file
from mistral_local.cli.interrupt import EXIT_INTERRUPTED
from mistral_local.cli.multiline import unfenced
from mistral_local.cli.session import Session
from mistral_local.cli.slash_commands import COMMANDS, parse_command, run_command
from mistral_local.errors import MistralLocalError


def open_editor(session: Session, *, keeps_history: bool) -> Editor:
    """Return the best editor that the terminal allows."""
    console = session.console
    if not can_redraw(console):
        return LineEditor(console.raw_err)
    history = open_history(history_file() if keeps_history else None, console.note)
    settings = session.options.__slots__
    return TerminalEditor(history, CommandCompleter([command.name for command in COMMANDS], settings), session.keys)


def run_chat(session: Session, editor: Editor) -> None:
    """Converse until Ctrl-D or /exit.

    Raises:
        SystemExit: 130 after two Ctrl-C within a second.
    """
    while True:
        try:
            text = editor.read()
        except KeyboardInterrupt:
            _on_interrupt(session, "" if editor.had_text else "(Ctrl-D or /exit leaves, Ctrl-C twice too)")
            continue
        except EOFError:
            return
        try:
            take_turn(session, text)
        except KeyboardInterrupt:
            _on_interrupt(session, "(interrupted)")
        except EOFError:
            return


def take_turn(session: Session, text: str) -> None:
    """Run a command or answer a message; what goes wrong is said, and the conversation stays.

    Raises:
        EOFError: for /exit.
    """
    message = unfenced(text)
    command = parse_command(text) if message is None else None
    message = text if message is None else message
    if not message.strip():
        return
    try:
        if command is not None:
            run_command(session, *command)
        else:
            session.ask(check_text("the message", message))
    except MistralLocalError as error:
        session.console.error(error)
    except (EOFError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - a conversation must survive a bug; --debug shows the traceback
        session.console.error(error)
    if command is None:
        session.console.note()


def _on_interrupt(session: Session, hint: str) -> None:
    if session.clock.is_second():
        raise SystemExit(0 if session.keys.is_active else EXIT_INTERRUPTED)
    if hint:
        session.console.note(hint)
