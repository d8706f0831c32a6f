"""The sections of a report. Each is a function from the data to what its macro in sections.html.j2 shows."""
