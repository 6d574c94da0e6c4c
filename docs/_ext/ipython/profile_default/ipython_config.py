"""Pictures in the pages are vectors."""

c = get_config()  # noqa: F821
c.InlineBackend.figure_formats = {"svg"}
c.InteractiveShellApp.matplotlib = "inline"
c.Application.log_level = "ERROR"
