"""Where alerts go: the log, webhooks, mail, MQTT; and the threads that bring them there."""
