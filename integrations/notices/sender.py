"""Telling people by webhook and by mail: `backend.ports.messages.Notifier`."""

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import httpx

from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.ports.messages import Notice
from backend.settings import RetrainingSettings

#: What a server says that wants to be asked later; other refusals stay so.
_LATER = {408, 425, 429}


class Sender:
    """Webhooks are one POST of JSON, without following to other addresses; mail goes through the settings' server."""

    def __init__(self, settings: RetrainingSettings) -> None:
        self._settings = settings

    def send(self, address: str, notice: Notice) -> None:
        if address.startswith("mailto:"):
            self._mail(unquote(address.removeprefix("mailto:")), notice)
        else:
            self._post(address, notice)

    def _post(self, url: str, notice: Notice) -> None:
        token = self._settings.webhook_token
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        body = {"title": notice.title, "text": notice.text, **notice.body}
        # The path of a webhook is often its secret.
        where = urlsplit(url).hostname
        try:
            answer = httpx.post(url, json=body, headers=headers, timeout=self._settings.notice_timeout_s)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadInput(f"the webhook at {where} has no usable address: {error}") from error
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"the webhook at {where} can't be reached: {type(error).__name__}") from error
        if answer.status_code in _LATER or answer.status_code >= 500:
            raise ServiceUnavailable(f"the webhook at {where} answered {answer.status_code}")
        if not answer.is_success:
            raise BadInput(f"the webhook at {where} refused it: {answer.status_code}")

    def _mail(self, to: str, notice: Notice) -> None:
        if self._settings.smtp_url is None:
            raise Misconfigured("no mail can be sent: set retraining.smtp_url")
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = notice.title, self._settings.mail_from, to
        message.set_content(notice.text)
        server = urlsplit(self._settings.smtp_url.get_secret_value())
        try:
            with self._connected(server.scheme, server.hostname or "", server.port) as connection:
                if server.username:
                    if not isinstance(connection, smtplib.SMTP_SSL) and not connection.has_extn("starttls"):
                        raise Misconfigured(f"{server.hostname} offers no STARTTLS: a password would go in the clear")
                    connection.login(unquote(server.username), unquote(server.password or ""))
                connection.send_message(message)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
            raise BadInput(f"the mail server {server.hostname} refuses mail to {to}: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise ServiceUnavailable(f"the mail server {server.hostname} didn't take it: {error}") from error

    def _connected(self, scheme: str, host: str, port: int | None) -> smtplib.SMTP:
        timeout_s, context = self._settings.notice_timeout_s, ssl.create_default_context()
        if scheme == "smtps":
            return smtplib.SMTP_SSL(host, port or 465, timeout=timeout_s, context=context)
        if scheme != "smtp":
            raise Misconfigured(f"retraining.smtp_url begins with smtp:// or smtps://, not {scheme}://")
        connection = smtplib.SMTP(host, port or 25, timeout=timeout_s)
        connection.ehlo()
        if connection.has_extn("starttls"):
            connection.starttls(context=context)
        return connection
