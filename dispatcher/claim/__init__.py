"""Claims due rows, starts their workflows, and rescues rows whose run was lost."""
