"""How far raters agree (section 4), and what each favours."""
